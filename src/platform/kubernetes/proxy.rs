//! Which proxy leads to the API server, by kubectl's rules: the kubeconfig's `proxy-url`, otherwise `HTTPS_PROXY` unless `NO_PROXY` lists the
//! server or it is on this machine.

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use kube::config::Kubeconfig;
use url::Host;

use super::Error;

/// The proxy to the server of a context; `None` if the kubeconfig has no such server, or without a proxy.
///
/// # Errors
/// If the address of the proxy cannot be used.
pub fn proxy(
    kubeconfig: &Kubeconfig,
    context: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Intercept>, Error> {
    let Some((server, named)) = server(kubeconfig, context) else {
        return Ok(None);
    };
    let first = |names: [&'static str; 2]| {
        let set = names.into_iter().filter_map(|name| Some((name, variable(name)?)));
        set.into_iter().find(|(_, value)| !value.is_empty())
    };
    let (place, address, exceptions) = match named {
        Some(named) => ("proxy-url of the kubeconfig", named, String::new()),
        None => {
            let set = first(["HTTPS_PROXY", "https_proxy"]);
            match set.filter(|_| server.scheme_str() == Some("https") && !is_on_this_machine(&server)) {
                Some((name, address)) => (name, address, first(["NO_PROXY", "no_proxy"]).unwrap_or_default().1),
                None => return Ok(None),
            }
        }
    };
    let matcher = Matcher::builder().all(&address);
    let Some(found) = matcher.build().intercept(&server) else {
        return Err(Error::Proxy { place });
    };
    if !matches!(found.uri().scheme_str(), Some("http" | "https" | "socks5" | "socks5h")) {
        return Err(Error::Proxy { place });
    }
    let exceptions = Matcher::builder().all(address).no(hosts(&exceptions, &server));
    Ok(exceptions.build().intercept(&server))
}

/// The server of a context, and the proxy that the kubeconfig names for it.
fn server(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<(Uri, Option<String>)> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?;
    let name = &context.context.as_ref()?.cluster;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == *name)?;
    let cluster = cluster.cluster.as_ref()?;
    let proxy = cluster.proxy_url.clone().filter(|proxy| !proxy.is_empty());
    Some((cluster.server.as_deref()?.parse().ok()?, proxy))
}

fn is_on_this_machine(server: &Uri) -> bool {
    match Host::parse(server.host().unwrap_or_default()) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

/// The entries of `NO_PROXY` as the matcher reads them: without the wildcard of `*.example.com`, and without ports, which exclude the
/// entries of other ports.
fn hosts(exceptions: &str, server: &Uri) -> String {
    let port = server.port_u16().unwrap_or(443);
    let entries = exceptions.split(',').map(str::trim);
    let hosts = entries.filter_map(|entry| match entry.rsplit_once(':') {
        Some((host, of)) if !host.contains(':') => (of.parse() == Ok(port)).then_some(host),
        _ => Some(entry),
    });
    let hosts: Vec<_> = hosts
        .map(|host| host.strip_prefix('*').filter(|rest| !rest.is_empty()).unwrap_or(host))
        .collect();
    hosts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://api.example.com:6443";

    /// The address of the proxy that is found for a server.
    fn found(server: &str, proxy_url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let kubeconfig = format!(
            "{{current-context: a, contexts: [{{name: a, context: {{cluster: b, user: c}}}}], \
             clusters: [{{name: b, cluster: {{server: '{server}', proxy-url: '{proxy_url}'}}}}]}}"
        );
        let variable = |name: &str| {
            let set = variables.iter().find(|(set, _)| *set == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        let proxy = proxy(&Kubeconfig::from_yaml(&kubeconfig).unwrap(), None, variable);
        let proxy = proxy.map_err(|error| error.to_string())?;
        Ok(proxy.map(|proxy| proxy.uri().to_string()))
    }

    fn is_proxied(server: &str, no_proxy: &str) -> bool {
        let variables = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", no_proxy)];
        found(server, "", &variables).unwrap().is_some()
    }

    #[test]
    fn the_kubeconfig_comes_before_the_environment() {
        let of = |address: &str| Ok(Some(address.to_owned()));
        assert_eq!(found(SERVER, "", &[]), Ok(None));
        assert_eq!(
            found(SERVER, "socks5://a:1", &[("HTTPS_PROXY", "http://b:2")]),
            of("socks5://a:1/")
        );
        assert_eq!(
            found(
                SERVER,
                "",
                &[("HTTPS_PROXY", "http://b:2"), ("https_proxy", "http://c:3")]
            ),
            of("http://b:2/")
        );
        assert_eq!(
            found(SERVER, "", &[("HTTPS_PROXY", ""), ("https_proxy", "c:3")]),
            of("http://c:3/")
        );
        // A password is sent to the proxy, and is no part of the address in messages.
        assert_eq!(
            found(SERVER, "", &[("HTTPS_PROXY", "http://user:secret@b:2")]),
            of("http://b:2/")
        );
        // These are for other requests.
        assert_eq!(
            found(SERVER, "", &[("HTTP_PROXY", "http://b:2"), ("ALL_PROXY", "http://b:2")]),
            Ok(None)
        );
        // What is named for this server is meant for it.
        let everywhere = [("NO_PROXY", "*")];
        assert_eq!(
            found("https://127.0.0.1:6443", "http://a:1", &everywhere),
            of("http://a:1/")
        );
    }

    #[test]
    fn no_proxy_lists_servers_as_for_kubectl() {
        for excepted in [
            "*",
            "example.com",
            ".example.com",
            "*.example.com",
            "api.example.com",
            "api.example.com:6443",
            ",localhost, API.example.com,",
        ] {
            assert!(!is_proxied(SERVER, excepted), "{excepted}");
        }
        for other in [
            "",
            ",",
            "ample.com",
            "b.example.com",
            "api.example.com:443",
            "proxy",
            "10.0.0.0/8",
        ] {
            assert!(is_proxied(SERVER, other), "{other}");
        }
        assert!(!is_proxied("https://10.1.2.3:6443", "192.168.0.0/16,10.0.0.0/8"));
        assert!(!is_proxied("https://10.1.2.3:6443", "10.1.2.3:6443"));
        assert!(!is_proxied("https://[fd00::1]:6443", "fd00::/8"));
        assert!(is_proxied("https://10.1.2.3:6443", "10.1.2.4"));
    }

    #[test]
    fn a_server_on_this_machine_needs_no_proxy_of_the_environment() {
        for server in [
            "https://localhost:6443",
            "https://127.0.0.1:6443",
            "https://127.8.0.1",
            "https://[::1]:6443",
        ] {
            assert!(!is_proxied(server, ""), "{server}");
        }
    }

    #[test]
    fn an_unusable_address_is_reported_without_its_password() {
        for address in [
            "ftp://user:secret@proxy",
            "socks4://user:secret@proxy:1080",
            "http://user:secret@",
        ] {
            let message = "the proxy in HTTPS_PROXY cannot be used".to_owned();
            assert_eq!(found(SERVER, "", &[("HTTPS_PROXY", address)]), Err(message));
            let message = "the proxy in proxy-url of the kubeconfig cannot be used".to_owned();
            assert_eq!(found(SERVER, address, &[]), Err(message));
        }
    }
}
