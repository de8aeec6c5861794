# A job that uses all the memory that its executors may have: blocks are cached in the heap, which memory.sh makes wholly resident; Python workers
# group more than fits into them; and each holds as much as argument 1 says (MiB) while it reads the cached blocks once more.
import sys
from pyspark.sql import SparkSession

sc = SparkSession.builder.appName("memory").getOrCreate().sparkContext
hold, tasks = int(sys.argv[1]), int(sys.argv[2])
VALUES = 40000


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmRSS"))


def produce(number):
    # Zeros: they are many in memory, and few on the disk.
    for i in range(VALUES):
        yield (number + i) % 64, bytes(8000 + i % 7)


def holding(part):
    held = []
    while resident() < hold:
        held.append(bytearray(b"x" * (2 << 20)))
    yield from (len(block) for block in part)


cached = sc.parallelize(range(tasks * 8), tasks).map(lambda i: bytes(2 << 20)).cache()
assert cached.count() == tasks * 8
grouped = sc.parallelize(range(tasks), tasks).flatMap(produce).groupByKey(tasks)
assert grouped.map(lambda pair: len(pair[1])).sum() == tasks * VALUES
assert cached.mapPartitions(holding).sum() == tasks * 8 * (2 << 20)
print("RESULT", sc._jsc.sc().getExecutorMemoryStatus().size() - 1, "executors", flush=True)
