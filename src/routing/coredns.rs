//! CoreDNS: every name of the UI domain resolves to the router, by the `template` plugin. Import it into the Corefile.

use std::net::IpAddr;

/// A server block for each domain. The other address family gets an empty answer, so that queries never go upstream.
pub fn config(domains: &[String], router: IpAddr) -> String {
    let (ours, other) = if router.is_ipv4() { ("A", "AAAA") } else { ("AAAA", "A") };
    let blocks = domains.iter().map(|domain| {
        format!(
            "{domain}:53 {{\n    template IN {ours} {domain} {{\n        answer \"{{{{ .Name }}}} 60 IN {ours} {router}\"\n    }}\n    \
             template IN {other} {domain} {{\n        rcode NOERROR\n    }}\n    errors\n}}\n"
        )
    });
    format!(
        "# Written by `sparkha route render --format coredns`.\n{}",
        blocks.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_block_for_each_domain() {
        assert_eq!(
            super::config(&["k8s".into()], [192, 0, 2, 1].into()),
            "# Written by `sparkha route render --format coredns`.\nk8s:53 {\n    template IN A k8s {\n        \
             answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n    }\n    template IN AAAA k8s {\n        rcode NOERROR\n    }\n    errors\n}\n"
        );
    }
}
