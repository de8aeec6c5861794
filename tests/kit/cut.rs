//! The way from the API server to the testbed's kubelet, cut by a firewall rule.

use std::io::Write;
use std::process::{Command, Stdio};

const TABLE: &str = "inet sparkha_cut";
/// Where kubelets serve logs, `exec` and port-forwards.
const KUBELET: u16 = 10250;

/// As long as it lives, nothing passes in either direction. Other tests may not need the node meanwhile.
pub struct Cut;

impl Cut {
    /// `None` on a cluster that is not the testbed.
    pub fn new() -> Option<Self> {
        if super::is_existing() {
            return None;
        }
        // What another run left is made anew.
        nft(&format!(
            "add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\nchain cut {{\ntype filter hook output priority 0\n\
             tcp dport {KUBELET} drop\ntcp sport {KUBELET} drop\n}}\n}}\n"
        ));
        Some(Self)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        nft(&format!("delete table {TABLE}\n"));
    }
}

fn nft(rules: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    let ended = child.wait().unwrap();
    // Not while another panic is on its way.
    assert!(ended.success() || std::thread::panicking(), "nft: {ended}");
}
