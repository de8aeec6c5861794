"""Sums squares by key, again and again: every round shuffles data across all workers."""

import socket
import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("demo").getOrCreate()
numbers = spark.sparkContext.parallelize(range(100_000), 8)
for n in range(1, 21):
    sums = numbers.map(lambda x: (x % 100, x * x)).reduceByKey(lambda a, b: a + b, 8)
    print(f"round {n:2}: the squares of 0 to 99999 sum to {sums.values().sum()}", flush=True)
    time.sleep(0.5)
hosts = spark.sparkContext.parallelize(range(64), 64).map(lambda _: socket.gethostname()).distinct().collect()
print("RESULT: computed on", ", ".join(sorted(hosts)), flush=True)
