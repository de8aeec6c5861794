//! dnsmasq: every name of the UI domain resolves to the router.

use std::net::IpAddr;

/// Lines for dnsmasq's configuration. Queries for the UI domains never go upstream.
pub fn config(domains: &[String], router: IpAddr) -> String {
    let lines = domains
        .iter()
        .map(|domain| format!("address=/{domain}/{router}\nlocal=/{domain}/\n"));
    format!(
        "# Written by `sparkha route render --format dnsmasq`.\n{}",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_for_each_domain() {
        assert_eq!(
            super::config(&["k8s".into(), "ui.example".into()], [192, 0, 2, 1].into()),
            "# Written by `sparkha route render --format dnsmasq`.\n\
             address=/k8s/192.0.2.1\nlocal=/k8s/\naddress=/ui.example/192.0.2.1\nlocal=/ui.example/\n"
        );
    }
}
