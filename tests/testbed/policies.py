"""Enforces NetworkPolicies on the testbed, whose bridge would let everyone through; Debian packages no network that does.

Every change of policies, pods or namespaces makes one nftables table anew, in one transaction. What a policy of networking.k8s.io/v1
says about ingress is all understood; egress is not limited, and a policy that asks for it is named in the log. The table sees
a packet on its way from one pod to another after kube-proxy has put the pod's address in the place of the Service's. The node's
own packets, the kubelet's probes among them, do not come this way and are never dropped, as the API asks for.

Of several nodes each gets the same table: what goes from one to another passes both.

usage: policies.py SERVER STATE-DIRECTORY TABLE [PROCESS…]   the processes whose namespaces are nodes; without any, this machine is the node
"""

import subprocess
import sys
import time

from api import Api


def selects(selector, labels):
    """Whether a label selector matches; an empty one matches everything."""
    def expression(key, operator, values):
        match operator:
            case "In":
                return labels.get(key) in values
            case "NotIn":
                return labels.get(key) not in values
            case "Exists":
                return key in labels
            case "DoesNotExist":
                return key not in labels
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        expression(each["key"], each["operator"], each.get("values") or [])
        for each in selector.get("matchExpressions") or [])


def labels_of(thing):
    return thing["metadata"].get("labels") or {}


def peers_of(policy, peer, pods, namespaces):
    """The addresses of a peer, as nftables matches them; None if nobody has one."""
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        excepted = block.get("except")
        return f"ip saddr {block['cidr']}" + (f" ip saddr != {{ {', '.join(excepted)} }}" if excepted else "")
    if "namespaceSelector" in peer:
        within = {name for name, labels in namespaces.items() if selects(peer["namespaceSelector"], labels)}
    else:
        within = {policy["metadata"]["namespace"]}
    addresses = sorted(
        pod["status"]["podIP"] for pod in pods
        if pod["metadata"]["namespace"] in within and selects(peer.get("podSelector") or {}, labels_of(pod)))
    return f"ip saddr {{ {', '.join(addresses)} }}" if addresses else None


def ports_of(pod, port):
    """One port of a rule, as nftables matches it; None if the pod has no port of that name."""
    protocol = port.get("protocol", "TCP")
    number = port.get("port")
    if isinstance(number, str):
        named = [declared["containerPort"] for container in pod["spec"]["containers"]
                 for declared in container.get("ports") or []
                 if declared.get("name") == number and declared.get("protocol", "TCP") == protocol]
        if not named:
            return None
        number = named[0]
    if number is None:
        return f"meta l4proto {protocol.lower()}"
    return f"{protocol.lower()} dport {number}" + (f"-{port['endPort']}" if "endPort" in port else "")


def admitted(policy, pod, pods, namespaces):
    """The rules by which a policy admits packets to a pod."""
    for rule in policy["spec"].get("ingress") or []:
        # What is left out admits everything.
        froms = [peers_of(policy, peer, pods, namespaces) for peer in rule.get("from") or []] or [""]
        ports = [ports_of(pod, port) for port in rule.get("ports") or []] or [""]
        for source in froms:
            for port in ports:
                if source is not None and port is not None:
                    yield f"{source} {port} accept".strip()


def ruleset(table, policies, pods, namespaces):
    # A pod that has ended may have left its address to another, and one in the node's network has the node's.
    pods = [pod for pod in pods if pod["status"].get("podIP") and not pod["spec"].get("hostNetwork")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")]
    chains, jumps = [], []
    for pod in pods:
        isolating = [policy for policy in policies
                     if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                     and "Ingress" in policy["spec"].get("policyTypes", ["Ingress"])
                     and selects(policy["spec"].get("podSelector") or {}, labels_of(pod))]
        if not isolating:
            continue
        address = pod["status"]["podIP"]
        chain = f"pod_{address.replace('.', '_')}"
        rules = dict.fromkeys(
            rule for policy in isolating for rule in admitted(policy, pod, pods, namespaces))
        # A pod may always reach itself, by its Service too.
        chains.append(f"chain {chain} {{\n  ip saddr {address} accept\n  " + "\n  ".join([*rules, "drop"]) + "\n}\n")
        jumps.append(f"  ip daddr {address} goto {chain}\n")
    # Made before it is deleted, so that it need not be there.
    return (f"table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{\n{''.join(chains)}"
            "chain forward {\n  type filter hook forward priority filter - 1; policy accept;\n"
            "  ct state established,related accept\n"
            # Of a connection that was made while the bridge passed its packets by, the connection tracker has seen no beginning, and takes
            # the first packet that it sees for one: the answer of a ZooKeeper server never reached its peer.
            f"  tcp flags & (syn | ack) != syn accept\n{''.join(jumps)}}}\n}}\n")


def main():
    server, state, table, *nodes = sys.argv[1:]
    api = Api(server, state)
    paths = ("/apis/networking.k8s.io/v1/networkpolicies", "/api/v1/pods", "/api/v1/namespaces")
    api.follow(*paths)
    entrances = [["nsenter", "--target", node, "--net"] for node in nodes] or [[]]
    told, last = set(), None
    while True:
        api.changed.wait(timeout=30)
        api.changed.clear()
        try:
            policies, pods, namespaces = (api.items(path) for path in paths)
            for policy in policies:
                name = f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"
                if "Egress" in policy["spec"].get("policyTypes", []) and name not in told:
                    told.add(name)
                    print(f"{name}: egress is not limited here", flush=True)
            rules = ruleset(table, policies, pods, {each["metadata"]["name"]: labels_of(each) for each in namespaces})
            if rules != last:
                for entrance in entrances:
                    subprocess.run([*entrance, "nft", "-f", "-"], input=rules, text=True, check=True)
                last = rules
        except (OSError, subprocess.CalledProcessError) as error:
            print(error, flush=True)
            time.sleep(0.5)
            api.changed.set()


if __name__ == "__main__":
    main()
