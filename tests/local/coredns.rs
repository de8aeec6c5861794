//! The configuration for CoreDNS, served by a real one.

use std::process::{Command, Stdio};

use crate::kit::Run;
use crate::kit::local::Home;

/// Serves a Corefile in a network namespace of its own, for the configuration listens on every address. Then asks for each line of standard
/// input, and prints the line, the response code and the answers.
const SERVE_AND_ASK: &str = r#"
ip link set lo up
"$1" -conf "$2" >"$2.log" 2>&1 &
server=$!
trap 'kill "$server"; wait "$server"' EXIT
ask() { dig @127.0.0.1 +time=2 +tries=1 +noall +comments +answer "$@"; }
for _ in {1..100}; do
  ! ask up.k8s >/dev/null || break
  kill -0 "$server" || { cat "$2.log" >&2; exit 1; }
  sleep 0.1
done
while read -r line; do
  # shellcheck disable=SC2086 # options and a name
  answer=$(ask $line)
  echo "$line: $(sed -n 's/.*status: \([A-Z]*\),.*/\1/p' <<<"$answer") $(awk '!/^;/ && NF { print $NF }' <<<"$answer")"
done
"#;

#[test]
fn coredns_answers_every_name_of_the_domains_with_the_router() {
    let built = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/coredns.sh")).output();
    let built = Run::from(built.unwrap()).exits(0);
    let home = Home::new();
    let [rendered, corefile] = ["sparkha.conf", "Corefile"].map(|name| home.folder.path().join(name));
    // As users import it. Nothing else is configured, so that other names are refused.
    std::fs::write(&corefile, "import sparkha.conf\n").unwrap();
    for (router, ours, other) in [("192.0.2.7", "A", "AAAA"), ("2001:db8::7", "AAAA", "A")] {
        let arguments = [
            "route",
            "render",
            "-A",
            "--format",
            "coredns",
            "--router-address",
            router,
        ];
        let domains = ["--domain", "k8s", "--domain", "ui.example.com"];
        let text = home.run(&[&arguments[..], &domains].concat()).exits(0).stdout;
        std::fs::write(&rendered, text).unwrap();
        let questions = [
            (
                format!("spark-master-0.default.k8s {ours}"),
                format!("NOERROR {router}"),
            ),
            (
                format!("SPARK-10-1-2-3.Default.K8s {ours}"),
                format!("NOERROR {router}"),
            ),
            (format!("+tcp a.b.ui.example.com {ours}"), format!("NOERROR {router}")),
            // At once, and not from a server above.
            (format!("spark-master-0.default.k8s {other}"), "NOERROR ".to_owned()),
            (format!("example.com {ours}"), "REFUSED ".to_owned()),
        ];
        let asked: String = questions.iter().map(|(question, _)| format!("{question}\n")).collect();
        let expected: String = questions
            .iter()
            .map(|(question, answer)| format!("{question}: {answer}\n"))
            .collect();
        let input = home.folder.path().join("questions");
        std::fs::write(&input, asked).unwrap();
        let answered = Command::new("unshare")
            .args(["--net", "bash", "-c", SERVE_AND_ASK, "bash", built.stdout.trim()])
            .arg(&corefile)
            .current_dir(home.folder.path())
            .stdin(Stdio::from(std::fs::File::open(&input).unwrap()))
            .output();
        assert_eq!(Run::from(answered.unwrap()).exits(0).stdout, expected);
    }
}
