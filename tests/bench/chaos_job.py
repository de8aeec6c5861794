"""One job of chaos.py: `spark-submit chaos_job.py KIND SECONDS FOLDER`.

It ends after so many seconds, or when FOLDER has a file `stop`. STARTED stands on its output when it has an application, TICK for each task or batch
that has ended, WRONG with what for each wrong result, and RESULT when it has come to its end.

`batch` shuffles, uses each shuffle's files several times, and shuffles anew; `cached` computes the same over and over from a cached RDD; `streaming` writes
each number of a rate source to files, exactly once if all is well: chaos.py reads them.
"""
import sys
import threading
import time
from pathlib import Path

from pyspark.sql import SparkSession

kind, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
spark = SparkSession.builder.getOrCreate()
sc = spark.sparkContext
print("STARTED", flush=True)
end = time.monotonic() + seconds
ended = sc.accumulator(0)


def goes_on():
    return time.monotonic() < end and not (folder / "stop").exists()


def tell(progress):
    """Prints when there is progress."""
    before = progress()
    while True:
        time.sleep(0.1)
        now = progress()
        if now != before:
            before = now
            print("TICK", now, flush=True)


def tell_of(progress):
    threading.Thread(target=tell, args=(progress,), daemon=True).start()


def expect(what, found, expected):
    if found != expected:
        print(f"WRONG {what}: {found} instead of {expected}", flush=True)


def light(part):
    """A task that takes its time without taking the machine's."""
    time.sleep(0.2)
    ended.add(1)
    yield from part


def batch():
    tell_of(lambda: ended.value)
    shuffles = 0
    while goes_on():
        shuffles += 1
        numbers = range(shuffles, shuffles + 6000)
        pairs = sc.parallelize(numbers, 6).mapPartitions(light).map(lambda x: (x % 100, x)).reduceByKey(lambda a, b: a + b, 4)
        expected = {key: sum(x for x in numbers if x % 100 == key) for key in range(100)}
        for _ in range(4):
            found = pairs.mapPartitions(light).collect()
            expect("number of keys", len(found), 100)
            expect("sums", dict(found), expected)


def cached():
    tell_of(lambda: ended.value)
    numbers = range(12000)
    rdd = sc.parallelize(numbers, 6).mapPartitions(light).map(lambda x: (x % 7, x)).cache()
    expected = sum(x * (x % 7 + 1) for x in numbers)
    while goes_on():
        found = rdd.mapPartitions(light).map(lambda pair: pair[1] * (pair[0] + 1)).sum()
        expect("sum", found, expected)
        expect("count", rdd.count(), len(numbers))
        time.sleep(0.3)


def streaming():
    rate = spark.readStream.format("rate").option("rowsPerSecond", 20).option("numPartitions", 2).load()
    numbers = rate.select("value").repartition(2, "value")
    written = numbers.writeStream.format("json").option("checkpointLocation", str(folder / "checkpoint"))
    query = written.trigger(processingTime="1 second").start(str(folder / "numbers"))
    tell_of(lambda: (query.lastProgress or {}).get("batchId"))
    while goes_on():
        if not query.isActive:
            raise SystemExit(f"the query has ended: {query.exception()}")
        time.sleep(0.2)
    query.stop()


{"batch": batch, "cached": cached, "streaming": streaming}[kind]()
print("RESULT", flush=True)
spark.stop()
