"""What a Flink program needs around PyFlink and the JVM: Java, properties, environment."""
