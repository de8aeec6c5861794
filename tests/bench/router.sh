#!/bin/bash
# Speed and size of the router, side by side with nginx as a proxy with kept connections to its upstream: the same backend (another nginx with a
# page of 20 kB), the same load (wrk, 32 connections), in turns in one run; then a router that others tire, 10,000 routes, and a route that changes.
#
# Load, backend and proxy share the processors. So compare the processor time that each proxy takes for a request (user and system, as the kernel
# counts it for its processes). Other programs change that little, but they change the requests a second a lot.
#
#   tests/bench/router.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-8}
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
backend=127.0.20.1 nginx=127.0.20.2 router=127.0.20.3

median() { sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
told() { printf '%-66s %10s %s (%s)\n' "$@"; }
until_open() { until (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; do sleep 0.05; done; }

# routes HOSTS: a table with one pod that answers, and as many others as asked for.
routes() {
  python3 - "$1" "$backend" <<'PYTHON'
import json, sys
count, backend = int(sys.argv[1]), sys.argv[2]
owner = lambda pod, role: {"namespace": "ns", "cluster": "spark", "pod": pod, "role": role}
routes = [{"host": "spark-master.ns.k8s", "port": 8080, "target": backend, "owner": owner("spark-master-0", "leader")}]
for n in range(1, count):
    a, b = divmod(n, 250)
    routes.append({"host": f"spark-10-9-{a}-{b}.ns.k8s", "port": 8081, "target": f"10.9.{a}.{b}",
                   "owner": owner(f"spark-worker-{n}", "worker")})
print(json.dumps(routes))
PYTHON
}

mkdir "$work/pages"
head -c 15000 /dev/urandom | base64 -w 0 >"$work/pages/page.html"
chmod 755 "$work"
# start_nginx NAME: an nginx of its own, with the servers on standard input.
start_nginx() {
  mkdir "$work/$1"
  cat >"$work/$1/nginx.conf" <<CONF
worker_processes auto;
daemon off;
pid $work/$1/pid;
error_log $work/$1/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $work/$1/b; proxy_temp_path $work/$1/p; fastcgi_temp_path $work/$1/f; uwsgi_temp_path $work/$1/u;
  scgi_temp_path $work/$1/s;
  keepalive_requests 1000000;
$(cat)
}
CONF
  /usr/sbin/nginx -c "$work/$1/nginx.conf" 2>/dev/null &
  nginx_pid=$!
  pids+=("$nginx_pid")
}
start_nginx backend <<<"server { listen $backend:8080; root $work/pages; }"
start_nginx proxy <<CONF
  upstream page { server $backend:8080; keepalive 64; keepalive_requests 1000000; }
  server {
    listen $nginx:8080;
    location / {
      proxy_pass http://page;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host \$http_host;
      proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
    }
  }
CONF
routes 1 >"$work/routes.json"
start_router() {
  "$sparkha" router --routes "$work/routes.json" --listen "$router" --port 8000 --no-access-log -q &
  router_pid=$!
  pids+=("$router_pid")
  until_open "$router" 8080
}
start_router
until_open "$nginx" 8080

# load ADDRESS PID: one line of requests a second, the 99th percentile in microseconds, and the microseconds of processor time for each request,
# in all, user and system, that the process and its children took.
load() {
  python3 - "$seconds" "$@" <<'PYTHON'
import os, re, subprocess, sys
seconds, address, pid = sys.argv[1:]

def taken():
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    fields = [open(f"/proc/{one}/stat").read().rpartition(")")[2].split() for one in [pid, *children]]
    return [sum(int(line[at]) for line in fields) * 1e6 / os.sysconf("SC_CLK_TCK") for at in (11, 12)]

before = taken()
wrk = ["wrk", "-t", "2", "-c", "32", "-d", f"{seconds}s", "--latency", "-H", "Host: spark-master.ns.k8s:8080", f"http://{address}:8080/page.html"]
said = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
user, system = (now - then for now, then in zip(taken(), before))
if re.search("Non-2xx|Socket errors", said):
    sys.exit(f"requests failed: {said}")
requests = int(re.search(r"(\d+) requests in", said)[1])
number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\n", said).groups()
p99 = float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
rate = re.search(r"Requests/sec:\s+([\d.]+)", said)[1]
print(rate, p99, *(f"{time / requests:.2f}" for time in (user + system, user, system)))
PYTHON
}
for _ in $(seq "$rounds"); do
  load "$nginx" "$nginx_pid" >>"$work/nginx.result"
  load "$router" "$router_pid" >>"$work/router.result"
done
# compare COLUMN WHAT GOAL: the medians, and the median of the rounds' ratios.
compare() {
  local ours theirs ratio
  ours=$(cut -d' ' -f"$1" "$work/router.result" | median)
  theirs=$(cut -d' ' -f"$1" "$work/nginx.result" | median)
  ratio=$(paste -d' ' <(cut -d' ' -f"$1" "$work/router.result") <(cut -d' ' -f"$1" "$work/nginx.result") | awk '{printf "%.2f\n", $1 / $2}' | median)
  told "$2 / nginx's ($ours / $theirs)" "$ratio" "" "$3"
}
compare 3 "processor time for each request, us" "at most 0.9"
compare 4 "  user" "not bounded"
compare 5 "  system" "not bounded"
compare 1 "requests a second" "at least 1.05"
compare 2 "99th percentile, us" "at most 1"

python3 "$here/tired_router.py" "$router"
kill "$router_pid"
wait "$router_pid" || true
routes 10000 >"$work/routes.json"
start_router
load "$router" "$router_pid" >/dev/null
told "resident with 10,000 routes" "$(awk '/VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$router_pid/status")" MB "at most 20"
python3 - "$work/routes.json" "$router" <<'PYTHON'
import http.client, json, os, sys, time
path, router = sys.argv[1:]
routes = json.load(open(path))
taken = []
for n in range(15):
    host = f"spark-new-{n}.ns.k8s"
    routes.append(dict(routes[0], host=host))
    with open(path + ".new", "w") as file:
        json.dump(routes, file)
    connection = http.client.HTTPConnection(router, 8080)
    os.rename(path + ".new", path)
    began = time.monotonic()
    while True:
        connection.request("GET", "/page.html", headers={"Host": host})
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            break
        # Asking without a pause would take the processor that the router needs.
        time.sleep(0.001)
    taken.append((time.monotonic() - began) * 1000)
taken.sort()
print(f"{'a route among 10,000 live after its change in the file, median':<66} {taken[7]:10.1f} ms (at most 20)")
PYTHON
