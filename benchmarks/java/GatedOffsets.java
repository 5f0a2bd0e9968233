package tunemesh.benchmarks;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Map;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;

/**
 * Earliest offsets, which are returned once a file exists.
 *
 * <p>The benchmark creates the file when all dimension records are in the joins' state: it measures
 * the enrichment of interactions, and every event can be joined. Only a worker thread of the
 * source's enumerator is blocked; checkpoints are not affected.
 */
public final class GatedOffsets implements OffsetsInitializer {
  private static final long serialVersionUID = 1L;
  private final String gate;

  public GatedOffsets(String gate) {
    this.gate = gate;
  }

  @Override
  public Map<TopicPartition, Long> getPartitionOffsets(
      Collection<TopicPartition> partitions, PartitionOffsetsRetriever retriever) {
    Path path = Path.of(gate);
    try {
      while (!Files.exists(path)) {
        Thread.sleep(20);
      }
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
    return OffsetsInitializer.earliest().getPartitionOffsets(partitions, retriever);
  }

  @Override
  public OffsetResetStrategy getAutoOffsetResetStrategy() {
    return OffsetResetStrategy.EARLIEST;
  }
}
