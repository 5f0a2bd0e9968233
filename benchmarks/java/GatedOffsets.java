package tunemesh.benchmarks;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Map;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;

/**
 * Earliest offsets, handed out once a file exists.
 *
 * <p>The harness makes that file when all dimensions are in the joins' state, so that what is
 * measured is the enrichment of interactions and every event finds its user and item. It blocks a
 * worker thread of the source's enumerator only: checkpoints go on meanwhile.
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
