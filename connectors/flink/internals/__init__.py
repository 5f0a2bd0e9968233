"""Everything that uses fields and classes of Flink that are not its public interface."""
