# A small job that works until its standard input ends, and tells of each result.
import os
import select
import sys

from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master(os.environ["SPARK_MASTER_URL"])
    .appName("sparkha-canary")
    .config("spark.cores.max", "1")
    .config("spark.executor.memory", "512m")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
numbers = spark.sparkContext.parallelize(range(1000), 2)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    print(numbers.map(lambda n: n * n).sum(), flush=True)
spark.stop()
print("end", flush=True)
