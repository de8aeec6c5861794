"""Sums squares by key, as many rounds as the argument says: every round shuffles data across all workers."""

import socket
import sys
import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.appName("demo").getOrCreate()
numbers = spark.sparkContext.parallelize(range(100_000), 8)
for n in range(1, 1 + int(sys.argv[1])):
    sums = numbers.map(lambda x: (x % 100, x * x)).reduceByKey(lambda a, b: a + b, 8)
    print(f"round {n:2}: the squares of 0 to 99999 sum to {sums.values().sum()}", flush=True)
    time.sleep(0.5)
hosts = spark.sparkContext.parallelize(range(64), 64).map(lambda _: socket.gethostname()).distinct().collect()
print("RESULT: computed on", ", ".join(sorted(hosts)), flush=True)
