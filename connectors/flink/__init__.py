"""Code that every Flink program of ours needs around PyFlink and the JVM."""
