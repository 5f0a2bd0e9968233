package tunemesh.benchmarks;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.co.KeyedCoProcessFunction;
import org.apache.flink.util.Collector;

/**
 * The baseline: the enrichment as a Java DataStream job.
 *
 * <p>It reads four topics, joins twice by key with the newest version of item and user in
 * ValueState, and writes the enriched records, in the wire format of the product (18 bytes of
 * registry header, Avro body of the newest schema version). Omitted, which favours it: registry
 * look-ups, older schema versions, compressed bodies, tombstones, dead letters.
 *
 * <p>Options are "--name value". Flink's configuration comes from the cluster and the client.
 */
public final class Reference {
  private static final int HEADER_SIZE = 18;

  private Reference() {}

  public static final class User {
    public String userId;
    public String country;
    public String ageBand;
    public String subscription;
    public Long createdAt;
    public String origin;
    public long version;
    public boolean deleted;

    public User() {}
  }

  public static final class Item {
    public String itemId;
    public String itemType;
    public String title;
    public String creator;
    public String[] genres;
    public Long durationMs;
    public String language;
    public Long createdAt;
    public String origin;
    public long version;
    public boolean deleted;

    public Item() {}
  }

  public static final class Event {
    public String key;
    public String eventId;
    public String userId;
    public String sessionId;
    public String itemId;
    public String itemType;
    public String eventType;
    public Long playedMs;
    public String device;
    public long occurredAt;
    public String recommendationId;
    public String[] impression;
    public String origin;
    public long publishedAt;
    public User user;
    public Item item;

    public Event() {}
  }

  /** Decodes the body of a topic's records; the topic chooses the schema. */
  private abstract static class Decode<T> implements KafkaRecordDeserializationSchema<T> {
    private static final long serialVersionUID = 1L;
    private final Map<String, String> definitions;
    private final Class<T> type;
    private transient Map<String, GenericDatumReader<GenericRecord>> readers;
    private transient Map<String, GenericRecord> reused;
    private transient BinaryDecoder decoder;

    Decode(Map<String, String> definitions, Class<T> type) {
      this.definitions = definitions;
      this.type = type;
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> source, Collector<T> out)
        throws IOException {
      if (readers == null) {
        readers = new HashMap<>();
        reused = new HashMap<>();
        for (Map.Entry<String, String> entry : definitions.entrySet()) {
          Schema schema = new Schema.Parser().parse(entry.getValue());
          readers.put(entry.getKey(), new GenericDatumReader<>(schema));
        }
      }
      byte[] value = source.value();
      decoder =
          DecoderFactory.get()
              .binaryDecoder(value, HEADER_SIZE, value.length - HEADER_SIZE, decoder);
      GenericRecord decoded =
          readers.get(source.topic()).read(reused.get(source.topic()), decoder);
      reused.put(source.topic(), decoded);
      out.collect(convert(decoded, source));
    }

    abstract T convert(GenericRecord decoded, ConsumerRecord<byte[], byte[]> source);

    @Override
    public TypeInformation<T> getProducedType() {
      return TypeInformation.of(type);
    }
  }

  private static final class DecodeEvent extends Decode<Event> {
    private static final long serialVersionUID = 1L;

    DecodeEvent(Map<String, String> definitions) {
      super(definitions, Event.class);
    }

    @Override
    Event convert(GenericRecord decoded, ConsumerRecord<byte[], byte[]> source) {
      Event event = new Event();
      event.key = new String(source.key(), StandardCharsets.UTF_8);
      event.eventId = text(decoded.get(0));
      event.userId = text(decoded.get(1));
      event.sessionId = text(decoded.get(2));
      event.itemId = text(decoded.get(3));
      event.itemType = text(decoded.get(4));
      event.eventType = text(decoded.get(5));
      event.playedMs = (Long) decoded.get(6);
      event.device = text(decoded.get(7));
      event.occurredAt = (Long) decoded.get(8);
      event.recommendationId = text(decoded.get(9));
      event.impression = texts(decoded.get(10));
      event.origin = origin(source);
      event.publishedAt = source.timestamp();
      return event;
    }
  }

  private static final class DecodeUser extends Decode<User> {
    private static final long serialVersionUID = 1L;

    DecodeUser(Map<String, String> definitions) {
      super(definitions, User.class);
    }

    @Override
    User convert(GenericRecord decoded, ConsumerRecord<byte[], byte[]> source) {
      User user = new User();
      user.userId = text(decoded.get(0));
      user.country = text(decoded.get(1));
      user.ageBand = text(decoded.get(2));
      user.subscription = text(decoded.get(3));
      user.createdAt = (Long) decoded.get(4);
      user.version = version(decoded.get(5), source);
      user.deleted = (Boolean) decoded.get(6);
      user.origin = origin(source);
      return user;
    }
  }

  private static final class DecodeItem extends Decode<Item> {
    private static final long serialVersionUID = 1L;

    DecodeItem(Map<String, String> definitions) {
      super(definitions, Item.class);
    }

    @Override
    Item convert(GenericRecord decoded, ConsumerRecord<byte[], byte[]> source) {
      Item item = new Item();
      item.itemId = text(decoded.get(0));
      item.title = text(decoded.get(1));
      item.origin = origin(source);
      if (source.topic().equals("songs")) {
        item.itemType = "song";
        item.creator = text(decoded.get(2));
        item.genres = texts(decoded.get(3));
        Integer seconds = (Integer) decoded.get(4);
        item.durationMs = seconds == null ? null : seconds * 1000L;
        item.createdAt = (Long) decoded.get(5);
        item.version = version(decoded.get(6), source);
        item.deleted = (Boolean) decoded.get(7);
      } else {
        item.itemType = "podcast";
        String host = text(decoded.get(3));
        item.creator = host == null ? text(decoded.get(2)) : host;
        item.genres = texts(decoded.get(4));
        item.language = text(decoded.get(5));
        item.version = version(decoded.get(6), source);
        item.deleted = (Boolean) decoded.get(7);
      }
      return item;
    }
  }

  private static String text(Object value) {
    return value == null ? null : value.toString();
  }

  private static String[] texts(Object value) {
    if (value == null) {
      return null;
    }
    List<?> values = (List<?>) value;
    String[] copied = new String[values.size()];
    for (int i = 0; i < copied.length; i++) {
      copied[i] = values.get(i).toString();
    }
    return copied;
  }

  private static String origin(ConsumerRecord<byte[], byte[]> source) {
    return source.topic() + "/" + source.partition() + "/" + source.offset();
  }

  private static long version(Object updatedAt, ConsumerRecord<byte[], byte[]> source) {
    return updatedAt == null ? source.timestamp() : (Long) updatedAt;
  }

  /** Attaches the newest version of the item; an older one never wins. */
  private static final class WithItem extends KeyedCoProcessFunction<String, Event, Item, Event> {
    private static final long serialVersionUID = 1L;
    private transient ValueState<Item> newest;

    @Override
    public void open(OpenContext context) {
      newest = getRuntimeContext().getState(new ValueStateDescriptor<>("item", Item.class));
    }

    @Override
    public void processElement1(Event event, Context context, Collector<Event> out)
        throws Exception {
      Item item = newest.value();
      event.item = item == null || item.deleted ? null : item;
      out.collect(event);
    }

    @Override
    public void processElement2(Item item, Context context, Collector<Event> out)
        throws Exception {
      Item held = newest.value();
      if (held == null || item.version >= held.version) {
        newest.update(item);
      }
    }
  }

  /** Attaches the newest version of the user; an older one never wins. */
  private static final class WithUser extends KeyedCoProcessFunction<String, Event, User, Event> {
    private static final long serialVersionUID = 1L;
    private transient ValueState<User> newest;

    @Override
    public void open(OpenContext context) {
      newest = getRuntimeContext().getState(new ValueStateDescriptor<>("user", User.class));
    }

    @Override
    public void processElement1(Event event, Context context, Collector<Event> out)
        throws Exception {
      // An anonymous event has its session as key: never somebody's user id.
      User user = event.userId == null ? null : newest.value();
      event.user = user == null || user.deleted ? null : user;
      out.collect(event);
    }

    @Override
    public void processElement2(User user, Context context, Collector<Event> out)
        throws Exception {
      User held = newest.value();
      if (held == null || user.version >= held.version) {
        newest.update(user);
      }
    }
  }

  /** The enriched record as its contract has it, with registry header. */
  private static final class Encode implements KafkaRecordSerializationSchema<Event> {
    private static final long serialVersionUID = 1L;
    private final String topic;
    private final String definition;
    private final byte[] header;
    private transient Schema schema;
    private transient Schema userSchema;
    private transient Schema itemSchema;
    private transient GenericDatumWriter<GenericRecord> writer;
    private transient ByteArrayOutputStream bytes;
    private transient BinaryEncoder encoder;

    Encode(String topic, String definition, byte[] header) {
      this.topic = topic;
      this.definition = definition;
      this.header = header;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(
        Event event, KafkaSinkContext context, Long timestamp) {
      if (schema == null) {
        schema = new Schema.Parser().parse(definition);
        userSchema = schema.getField("user").schema().getTypes().get(1);
        itemSchema = schema.getField("item").schema().getTypes().get(1);
        writer = new GenericDatumWriter<>(schema);
        bytes = new ByteArrayOutputStream(1024);
      }
      bytes.reset();
      bytes.write(header, 0, header.length);
      encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
      try {
        writer.write(record(event), encoder);
        encoder.flush();
      } catch (IOException impossible) {
        throw new IllegalStateException(impossible);
      }
      byte[] key = event.key.getBytes(StandardCharsets.UTF_8);
      return new ProducerRecord<>(topic, key, bytes.toByteArray());
    }

    private GenericRecord record(Event event) {
      GenericRecord enriched = new GenericData.Record(schema);
      enriched.put(0, event.eventId);
      enriched.put(1, event.userId);
      enriched.put(2, event.sessionId);
      enriched.put(3, event.itemId);
      enriched.put(4, event.itemType);
      enriched.put(5, event.eventType);
      enriched.put(6, event.playedMs);
      enriched.put(7, event.device);
      enriched.put(8, event.occurredAt);
      enriched.put(9, event.recommendationId);
      enriched.put(10, event.impression == null ? null : List.of(event.impression));
      enriched.put(11, event.origin);
      enriched.put(12, event.publishedAt);
      if (event.user != null) {
        GenericRecord user = new GenericData.Record(userSchema);
        user.put(0, event.user.country);
        user.put(1, event.user.ageBand);
        user.put(2, event.user.subscription);
        user.put(3, event.user.createdAt);
        user.put(4, event.user.origin);
        enriched.put(13, user);
      }
      if (event.item != null) {
        GenericRecord item = new GenericData.Record(itemSchema);
        item.put(0, event.item.itemType);
        item.put(1, event.item.title);
        item.put(2, event.item.creator);
        item.put(3, List.of(event.item.genres));
        item.put(4, event.item.durationMs);
        item.put(5, event.item.language);
        item.put(6, event.item.createdAt);
        item.put(7, event.item.origin);
        enriched.put(14, item);
      }
      return enriched;
    }
  }

  private static <T> DataStream<T> read(
      StreamExecutionEnvironment environment,
      Map<String, String> options,
      OffsetsInitializer offsets,
      KafkaRecordDeserializationSchema<T> decode,
      String... topics) {
    KafkaSource<T> source =
        KafkaSource.<T>builder()
            .setBootstrapServers(options.get("bootstrap"))
            .setTopics(topics)
            .setGroupId(options.get("group"))
            .setStartingOffsets(offsets)
            .setDeserializer(decode)
            .setProperty("commit.offsets.on.checkpoint", "true")
            .build();
    return environment
        .fromSource(source, WatermarkStrategy.noWatermarks(), topics[0])
        .uid("read-" + topics[0]);
  }

  private static Map<String, String> definitions(Map<String, String> options, String... topics)
      throws IOException {
    Map<String, String> found = new HashMap<>();
    for (String topic : topics) {
      found.put(topic, Files.readString(Path.of(options.get("schemas"), topic + ".avsc")));
    }
    return found;
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, String> options = new HashMap<>();
    for (int i = 0; i < arguments.length; i += 2) {
      options.put(arguments[i].substring(2), arguments[i + 1]);
    }
    StreamExecutionEnvironment environment =
        StreamExecutionEnvironment.getExecutionEnvironment();
    OffsetsInitializer gated = new GatedOffsets(options.get("gate"));
    OffsetsInitializer earliest = OffsetsInitializer.earliest();
    DataStream<Event> events =
        read(
            environment,
            options,
            gated,
            new DecodeEvent(definitions(options, "interactions")),
            "interactions");
    DataStream<Item> items =
        read(
            environment,
            options,
            earliest,
            new DecodeItem(definitions(options, "songs", "podcasts")),
            "songs",
            "podcasts");
    DataStream<User> users =
        read(
            environment,
            options,
            earliest,
            new DecodeUser(definitions(options, "users")),
            "users");
    DataStream<Event> enriched =
        events
            .connect(items)
            .keyBy(event -> event.itemId, item -> item.itemId)
            .process(new WithItem())
            .uid("with-item")
            .connect(users)
            .keyBy(event -> event.key, user -> user.userId)
            .process(new WithUser())
            .uid("with-user");
    String definition = definitions(options, "interactions-enriched").values().iterator().next();
    byte[] header = new byte[HEADER_SIZE];
    for (int i = 0; i < HEADER_SIZE; i++) {
      header[i] = (byte) Integer.parseInt(options.get("header").substring(2 * i, 2 * i + 2), 16);
    }
    KafkaSink<Event> sink =
        KafkaSink.<Event>builder()
            .setBootstrapServers(options.get("bootstrap"))
            .setRecordSerializer(new Encode(options.get("out"), definition, header))
            .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
            .setProperty("linger.ms", options.get("linger-ms"))
            .setProperty("batch.size", options.get("batch-bytes"))
            .setProperty("compression.type", options.get("compression"))
            .build();
    enriched.sinkTo(sink).uid("write");
    environment.execute("benchmark-reference");
  }
}
