"""The jobs of chaos.py as they are submitted, watched and judged."""
import json
import os
import signal
import subprocess
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

HANG = float(os.environ.get("HANG", 240))
# How long each runs; the stream to the end.
SECONDS = {"batch": 20, "cached": 120, "streaming": 1e9}


class Job(threading.Thread):
    """One job, from `sparkha submit` to its end."""

    def __init__(self, kind, number, submit, ground):
        super().__init__(daemon=True)
        self.name = f"{kind}-{number}"
        self.log = ground.folder / f"{self.name}.log"
        spark = ["--driver-memory", "512m", "--executor-memory", "512m", "--executor-cores", "1", "--total-executor-cores", "2",
                 "--conf", "spark.sql.shuffle.partitions=2", "--conf", "spark.ui.showConsoleProgress=false"]
        job = [str(Path(__file__).with_name("chaos_job.py")), kind, str(SECONDS[kind]), str(ground.as_jobs_see_it or ground.folder)]
        self.submitted = time.monotonic()
        # When it had an application, and each time that some of it ended.
        self.progress = []
        self.wrong, self.result, self.code, self.ended = [], False, None, None
        self.process = subprocess.Popen(
            [*submit, "--name", self.name, *spark, "--", *job],
            stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True, start_new_session=True)
        self.start()

    def run(self):
        for line in self.process.stdout:
            if line.startswith(("STARTED", "TICK")):
                self.progress.append(time.monotonic())
            elif line.startswith("WRONG"):
                self.wrong.append(line.strip())
            elif line.startswith("RESULT"):
                self.result = True
        code = self.process.wait()
        self.ended, self.code = time.monotonic(), code

    def last(self):
        return self.progress[-1] if self.progress else self.submitted

    def stand_still(self):
        """The longest time in which nothing of it ended, since it had an application, and when that began."""
        moments = [*self.progress, self.ended or time.monotonic()]
        return max(((b - a, a) for a, b in zip(moments, moments[1:])), default=(0.0, 0.0))

    def end(self):
        """As Ctrl-C does, and if need be without asking."""
        for what, patience in ((signal.SIGINT, 60), (signal.SIGKILL, 10)):
            self.process.send_signal(what)
            self.join(patience)


class Jobs(threading.Thread):
    """Jobs of one kind, one after another. `lacked` says when a job could not go on for the last time, for lack of a leader or a worker."""

    def __init__(self, kind, submit, ground, lacked, tell):
        super().__init__(daemon=True)
        self.kind, self.submit, self.ground, self.lacked, self.tell = kind, submit, ground, lacked, tell
        self.jobs, self.lost, self.went, self.stopping, self.interrupted = [], [], [], False, False
        self.start()

    def run(self):
        while not self.stopping:
            job = Job(self.kind, len(self.jobs) + 1, self.submit, self.ground)
            self.jobs.append(job)
            why = self.watch(job)
            if self.interrupted:
                job.end()
                return
            if why and self.ground.went_with_its_node(job):
                self.went.append(job.name)
                self.tell(f"{job.name} ended with its driver's node: {why}")
            elif why:
                self.lost.append(f"{job.name}: {why}; its log is {job.log.name}")
                self.tell(f"JOB LOST: {job.name}: {why}")
                time.sleep(5)
            elif not job.result:
                job.wrong.append("exit code 0 without a result")
            for wrong in job.wrong:
                self.tell(f"WRONG RESULT: {job.name}: {wrong}")

    def watch(self, job):
        """Until its end; why it is lost, if it is."""
        while job.is_alive() and not self.interrupted:
            job.join(0.5)
            still = time.monotonic() - max(job.last(), self.lacked())
            if job.is_alive() and still > HANG:
                job.end()
                return f"nothing of it ended for {still:.0f} s"
        return f"exit code {job.code}" if job.code else None

    def end(self, interrupted):
        self.interrupted = interrupted
        self.stopping = True


def wrong_numbers(folder):
    """What is wrong with the stream's output, and how many numbers it has. The files are those that the sink's own log lists."""
    listed = folder / "numbers/_spark_metadata"
    # A compacted log has all before it.
    logs = sorted(listed.glob("[0-9]*"), key=lambda log: int(log.name.split(".")[0])) if listed.is_dir() else []
    compacted = [at for at, log in enumerate(logs) if log.suffix == ".compact"]
    entries = [json.loads(line) for log in logs[max(compacted, default=0):] for line in log.read_text().splitlines()[1:]]
    files = [Path(urllib.parse.unquote(urllib.parse.urlparse(entry["path"]).path)).name for entry in entries]
    times = Counter(json.loads(line)["value"] for file in files for line in (folder / "numbers" / file).read_text().splitlines())
    wrong = [f"{number} stands there {often} times" for number, often in sorted(times.items()) if often > 1]
    wrong += [f"{number} is missing" for number in range(max(times, default=0)) if number not in times]
    return wrong, len(times)
