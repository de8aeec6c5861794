# A small job that prints each result. It runs until its standard input ends, or in a pod, which has none, for the given number of seconds.
import os
import select
import sys
import time

from pyspark.sql import SparkSession

builder = SparkSession.builder.appName("sparkha-canary")
if "SPARK_MASTER_URL" in os.environ:
    builder = builder.master(os.environ["SPARK_MASTER_URL"])
spark = (
    builder.config("spark.cores.max", "1")
    .config("spark.executor.cores", "1")
    .config("spark.executor.memory", "512m")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
numbers = spark.sparkContext.parallelize(range(1000), 2)
end = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else None


def goes_on():
    if end is None:
        return not select.select([sys.stdin], [], [], 0.1)[0]
    time.sleep(0.1)
    return time.monotonic() < end


while goes_on():
    print(numbers.map(lambda n: n * n).sum(), flush=True)
spark.stop()
print("end", flush=True)
