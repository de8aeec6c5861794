#!/bin/bash
# Speed and size of the router, side by side with nginx as a proxy with kept connections to its upstream: the same backend (nginx with a page of
# 20 kB), the same load (wrk, 32 connections), in turns in one run; then a router that others tire, 10,000 routes, and a route that changes.
#
#   tests/bench/router.sh PATH-OF-SPARKHA
set -euo pipefail
sparkha=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
rounds=${ROUNDS:-3}
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
cat >"$work/nginx.conf" <<CONF
worker_processes auto;
daemon off;
pid $work/pid;
error_log $work/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  keepalive_requests 1000000;
  upstream page { server $backend:8080; keepalive 64; keepalive_requests 1000000; }
  server { listen $backend:8080; root $work/pages; }
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
}
CONF
chmod 755 "$work"
/usr/sbin/nginx -c "$work/nginx.conf" 2>/dev/null &
pids+=($!)
routes 1 >"$work/routes.json"
start_router() {
  "$sparkha" router --routes "$work/routes.json" --listen "$router" --port 8000 --no-access-log -q &
  router_pid=$!
  pids+=("$router_pid")
  until_open "$router" 8080
}
start_router
until_open "$nginx" 8080

# load ADDRESS: requests a second, and the 99th percentile in microseconds.
load() {
  wrk -t 2 -c 32 -d "${seconds}s" --latency -H 'Host: spark-master.ns.k8s:8080' "http://$1:8080/page.html" >"$work/wrk"
  ! grep -E 'Non-2xx|Socket errors' "$work/wrk" || { echo "requests failed" >&2; exit 1; }
  awk '/Requests\/sec/ {r=$2} $1 == "99%" {l=$2; f = (l ~ /ms/ ? 1000 : l ~ /us/ ? 1 : 1000000); p=l*f} END {print r, p}' "$work/wrk"
}
for _ in $(seq "$rounds"); do
  load "$nginx" >>"$work/nginx.result"
  load "$router" >>"$work/router.result"
done
for column in 1 2; do
  ours=$(cut -d' ' -f$column "$work/router.result" | median)
  theirs=$(cut -d' ' -f$column "$work/nginx.result" | median)
  ratio=$(awk -v a="$ours" -v b="$theirs" 'BEGIN {printf "%.2f", a / b}')
  case $column in
    1) told "requests a second / nginx's ($ours / $theirs)" "$ratio" "" "at least 1" ;;
    2) told "99th percentile / nginx's ($ours / $theirs us)" "$ratio" "" "at most 1" ;;
  esac
done

python3 "$here/tired_router.py" "$router"
kill "$router_pid"
wait "$router_pid" || true
routes 10000 >"$work/routes.json"
start_router
load "$router" >/dev/null
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
