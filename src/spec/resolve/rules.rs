//! Validation rules of Kubernetes, Spark and ZooKeeper for single values. A violated rule returns the reason, and some a remedy.

use hyper::Uri;

use crate::spec::names::{is_dns_subdomain, is_qualified};

/// The mistake and its remedy.
pub type Rule = Result<(), (String, String)>;

/// Environment variables that sparkha sets itself, and the key of the cluster file to use instead.
const OWN_ENV: [(&str, &str); 22] = [
    ("SPARK_MASTER_HOST", "it is the name of the master's Service"),
    ("SPARK_MASTER_PORT", "it is 7077"),
    ("SPARK_MASTER_WEBUI_PORT", "it is 8080"),
    ("SPARK_LOCAL_HOSTNAME", "it is the pod's address"),
    ("SPARK_LOCAL_IP", "another value makes the web UI unreachable"),
    ("SPARK_PUBLIC_DNS", "use webUi.domain"),
    ("SPARK_WORKER_CORES", "use workers.cores"),
    ("SPARK_WORKER_MEMORY", "use workers.memory and workers.offHeapShare"),
    ("SPARK_WORKER_PORT", "it is 7078"),
    ("SPARK_WORKER_WEBUI_PORT", "it is 8081"),
    ("SPARK_WORKER_DIR", "it is an emptyDir"),
    ("SPARK_LOCAL_DIRS", "use workers.shuffle"),
    ("SPARK_DAEMON_MEMORY", "use daemonMemory"),
    ("SPARK_CONF_DIR", "use sparkConf"),
    ("SPARK_DAEMON_JAVA_OPTS", FOR_PROPERTIES),
    // Their system properties would override the properties files, and so the cluster's protection and recovery.
    ("SPARK_HISTORY_OPTS", FOR_PROPERTIES),
    ("SPARK_MASTER_OPTS", FOR_PROPERTIES),
    ("SPARK_WORKER_OPTS", FOR_PROPERTIES),
    ("ZOOKEEPER_JAVA_OPTS", "use zookeeper.daemonMemory"),
    ("POD_IP", "it is the pod's address"),
    ("POD_NAMESPACE", "it is the pod's namespace"),
    ("HOSTNAME", "it is the pod's name"),
];

const FOR_PROPERTIES: &str = "use sparkConf for properties";

/// Beginning of the names of variables for sparkha's own scripts.
const OF_SCRIPTS: &str = "SPARKHA_";

/// Properties that sparkha sets itself, and the key of the cluster file to use instead.
const OWN_CONF: [(&str, &str); 22] = [
    ("spark.deploy.recoveryMode", "masters.count and zookeeper determine it"),
    ("spark.deploy.recoveryDirectory", "use masters.storage"),
    ("spark.deploy.zookeeper.url", "use zookeeper.external.servers"),
    ("spark.deploy.zookeeper.dir", "use zookeeper.external.chroot"),
    ("spark.master", "`sparkha status` shows the masters' URL for drivers"),
    ("spark.local.dir", "use workers.shuffle"),
    ("spark.port.maxRetries", FIXED_PORTS),
    ("spark.history.ui.port", FIXED_PORTS),
    ("spark.master.ui.port", FIXED_PORTS),
    ("spark.worker.ui.port", FIXED_PORTS),
    ("spark.submit.deployMode", "drivers run in client mode"),
    // Only `authentication` can disable access control.
    ("spark.authenticate", WITHOUT_SECRET),
    ("spark.network.crypto.enabled", WITHOUT_SECRET),
    ("spark.network.crypto.authEngineVersion", WITHOUT_SECRET),
    ("spark.network.crypto.saslFallback", WITHOUT_SECRET),
    (
        "spark.master.rest.enabled",
        "the REST server runs drivers of everyone who can connect to it; `sparkha submit` does not need it",
    ),
    (
        "spark.decommission.enabled",
        "sparkha sets it for workers; with it, masters decommission workers on anyone's request",
    ),
    (
        "spark.master.ui.decommission.allow.mode",
        "masters would decommission workers on anyone's request",
    ),
    ("spark.ssl.rpc.enabled", "use tls.secret"),
    ("spark.ssl.enabled", HTTPS_AT_THE_ROUTER),
    ("spark.ssl.standalone.enabled", HTTPS_AT_THE_ROUTER),
    ("spark.ssl.ui.enabled", HTTPS_AT_THE_ROUTER),
];

/// With HTTPS, web UIs redirect to other ports, and sparkha cannot find the leader.
const HTTPS_AT_THE_ROUTER: &str = "sparkha connects to web UIs by HTTP; `sparkha router` serves HTTPS";

const FIXED_PORTS: &str = "daemons must listen on the ports of their Services";

const WITHOUT_SECRET: &str = "use authentication.enabled: false";

/// `host:port`; an IPv6 address in brackets.
pub fn host_port(text: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    match port.parse::<u16>() {
        Ok(0) | Err(_) => return Err(format!("`{port}` is not a port")),
        Ok(_) => {}
    }
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_dns_subdomain(&host.to_lowercase()),
    };
    if valid {
        Ok(())
    } else {
        Err(format!("`{host}` is not a host"))
    }
}

/// An absolute path of a znode; may be empty.
pub fn znode(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return if path.is_empty() {
            Ok(())
        } else {
            Err("it does not begin with `/`".into())
        };
    };
    let parts = || rest.trim_end_matches('/').split('/');
    if !rest.is_empty() && parts().any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("it has an empty part, `.` or `..`".into());
    }
    if rest.chars().any(char::is_control) {
        return Err("it has a control character".into());
    }
    Ok(())
}

/// Why a cluster file cannot set this property: sparkha sets it itself.
pub fn own_property(key: &str) -> Option<&'static str> {
    OWN_CONF
        .iter()
        .find(|(own, _)| *own == key)
        .map(|(_, instead)| *instead)
}

/// Why a cluster file cannot set this environment variable: sparkha sets it itself.
pub fn own_variable(name: &str) -> Option<&'static str> {
    let own = OWN_ENV.iter().find(|(own, _)| *own == name);
    own.map(|(_, instead)| *instead).or_else(|| {
        name.starts_with(OF_SCRIPTS)
            .then_some("sparkha's scripts use these names")
    })
}

/// A Spark property.
pub fn spark_conf(key: &str, value: &str) -> Rule {
    if let Some(instead) = own_property(key).filter(|_| (key, value) != ("spark.submit.deployMode", "client")) {
        return Err((
            "sparkha sets this property itself".into(),
            format!("remove it: {instead}"),
        ));
    }
    if !key.starts_with("spark.") || key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err((
            "Spark ignores properties that do not begin with `spark.`".into(),
            format!("did you mean `spark.hadoop.{key}`?"),
        ));
    }
    if key == "spark.network.crypto.cipher" && !["AES/CTR/NoPadding", "AES/GCM/NoPadding"].contains(&value) {
        return Err((
            format!("Spark does not support the cipher `{value}`"),
            "use AES/GCM/NoPadding, or AES/CTR/NoPadding with versions that do not support it".into(),
        ));
    }
    if is_secret(key) && !value.is_empty() {
        return Err((
            "this looks like a secret, and everyone who may read ConfigMaps would see it".into(),
            "use s3.secret for S3 keys, or env with secretKeyRef".into(),
        ));
    }
    Ok(())
}

/// Whether a property or variable with this name looks like a secret.
pub fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase().replace(['_', '-'], ".");
    let ends = |word: &&str| lower.ends_with(*word);
    // Azure's names end with the account.
    SECRETS.iter().any(ends) || OF_ACCOUNTS.iter().any(|word| lower.contains(word))
}

/// Suffixes of the names of secrets.
const SECRETS: [&str; 16] = [
    "secret",
    "secret.key",
    "secretkey",
    "password",
    "password.key",
    "passphrase",
    "token",
    "token.key",
    "access.key",
    "accesskey",
    "private.key",
    "privatekey",
    "api.key",
    "storage.key",
    "credential",
    "credentials",
];
/// Substrings of the names of an account's secrets.
const OF_ACCOUNTS: [&str; 3] = ["account.key", "azure.sas.", "client.secret"];
/// The equivalent regular expression for Spark, which redacts matching names and values in its logs and pages.
pub const REDACTED: &str = "(?i)secret|password|passphrase|token|access[._-]?key|private[._-]?key|api[._-]?key|account[.]key|azure[.]sas[.]|credentials?$";

/// A duration in Spark's notation.
pub fn spark_time(text: &str) -> Rule {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    if number.parse::<u32>().is_ok_and(|number| number > 0) && ["s", "min", "h", "d"].contains(&unit) {
        return Ok(());
    }
    Err((format!("`{text}` is not a duration"), "write it like 12h or 7d".into()))
}

/// The name of an environment variable.
pub fn env_name(name: &str) -> Rule {
    if let Some(instead) = own_variable(name) {
        return Err((
            "sparkha sets this variable itself".into(),
            format!("remove it: {instead}"),
        ));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err((
            format!("`{name}` is not a valid name of an environment variable"),
            "use letters, digits and `_`".into(),
        ));
    }
    Ok(())
}

/// A label.
pub fn label(key: &str, value: &str) -> Rule {
    metadata_key(key)?;
    if is_qualified(value) || value.is_empty() {
        return Ok(());
    }
    Err((
        format!("`{value}` is not a valid value of a label"),
        "use up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends".into(),
    ))
}

/// The key of a label or annotation.
pub fn metadata_key(key: &str) -> Rule {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    match prefix {
        Some("app.kubernetes.io" | "sparkha") => {
            Err((format!("sparkha sets `{key}` itself"), "choose another key".into()))
        }
        Some(prefix) if !is_dns_subdomain(prefix) => Err((
            format!("`{prefix}` is not a valid prefix of a key"),
            "write it like example.org/key".into(),
        )),
        _ if !is_qualified(name) => Err((
            format!("`{name}` is not a valid key of a label or annotation"),
            "use up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends".into(),
        )),
        _ => Ok(()),
    }
}

/// Whether the text is an http or https URL with a host.
pub fn is_http_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    match (uri.scheme_str(), uri.authority(), uri.port()) {
        (Some("http" | "https"), Some(authority), Some(_)) => host_port(authority.as_str()).is_ok(),
        (Some("http" | "https"), Some(authority), None) => host_port(&format!("{authority}:80")).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_need_a_host_and_a_port() {
        for good in ["zk-0:2181", "10.0.0.1:2181", "[::1]:2181", "ZK.example:1"] {
            assert_eq!(host_port(good), Ok(()), "{good}");
        }
        for bad in ["zk", "zk:", "zk:0", "zk:65536", ":2181", "::1:2181", "zk :2181"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn znodes_are_absolute_paths() {
        for good in ["", "/", "/spark", "/a/b", "/a/"] {
            assert_eq!(znode(good), Ok(()), "{good}");
        }
        for bad in ["spark", "//", "/a//b", "/a/../b", "/a\nb"] {
            assert!(znode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn properties_that_look_like_secrets_are_refused() {
        for secret in [
            "spark.hadoop.fs.s3a.secret.key",
            "spark.hadoop.fs.s3a.access.key",
            "spark.authenticate.secret",
            "spark.ssl.keyPassword",
            "spark.hadoop.fs.azure.account.key.data.blob.core.windows.net",
            "spark.hadoop.fs.azure.sas.box.data.blob.core.windows.net",
            "spark.hadoop.fs.azure.sas.fixed.token.data.dfs.core.windows.net",
            "spark.hadoop.fs.azure.account.oauth2.client.secret.data.dfs.core.windows.net",
            "spark.hadoop.google.cloud.auth.service.account.private.key",
            "spark.some.secretKey",
            "spark.some.credentials",
            "spark.some.api-key",
        ] {
            assert!(spark_conf(secret, "x").is_err(), "{secret}");
        }
        for harmless in [
            "spark.hadoop.fs.s3a.aws.credentials.provider",
            "spark.hadoop.fs.azure.account.auth.type.data.dfs.core.windows.net",
            "spark.hadoop.google.cloud.auth.service.account.json.keyfile",
            "spark.sql.shuffle.partitions",
            "spark.kryo.tokenizer",
        ] {
            assert!(spark_conf(harmless, "x").is_ok(), "{harmless}");
        }
    }

    #[test]
    fn properties_cannot_disable_access_control() {
        for (key, value) in [
            ("spark.authenticate", "false"),
            ("spark.network.crypto.saslFallback", "true"),
            ("spark.master.rest.enabled", "true"),
            ("spark.decommission.enabled", "true"),
            ("spark.network.crypto.cipher", "none"),
            ("spark.ssl.rpc.enabled", "false"),
        ] {
            assert!(spark_conf(key, value).is_err(), "{key}");
        }
    }

    #[test]
    fn properties_cannot_move_the_web_uis_of_daemons() {
        for key in [
            "spark.history.ui.port",
            "spark.master.ui.port",
            "spark.worker.ui.port",
            "spark.submit.deployMode",
        ] {
            assert!(spark_conf(key, "18081").is_err(), "{key}");
        }
        assert!(spark_conf("spark.submit.deployMode", "client").is_ok());
        // The first free port, as in Spark.
        assert!(spark_conf("spark.ui.port", "4050").is_ok());
    }

    #[test]
    fn variables_cannot_replace_the_properties_files() {
        for name in [
            "SPARK_MASTER_OPTS",
            "SPARK_WORKER_OPTS",
            "SPARK_HISTORY_OPTS",
            "SPARK_DAEMON_JAVA_OPTS",
        ] {
            let (_, help) = env_name(name).unwrap_err();
            assert_eq!(help, "remove it: use sparkConf for properties", "{name}");
        }
        assert!(env_name("SPARKHA_ANYTHING").is_err());
        for name in ["HOME", "SPARK_DAEMON_CLASSPATH", "SPARK_SUBMIT_OPTS"] {
            assert!(env_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for good in ["7d", "12h", "90min", "1s"] {
            assert!(spark_time(good).is_ok(), "{good}");
        }
        for bad in ["", "7", "d", "0d", "7 d", "1w", "-1d"] {
            assert!(spark_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_http_urls_are_accepted() {
        for good in [
            "http://minio:9000",
            "https://s3.example.org",
            "https://s3.example.org/path",
            "http://192.0.2.1:9000",
            "http://[fd00::10]:9000",
            "https://[fd00::10]",
            "http://[::1]:9000/path",
        ] {
            assert!(is_http_url(good), "{good}");
        }
        for bad in [
            "minio:9000",
            "ftp://x",
            "http://",
            "http://a b",
            "http://x:port",
            "http://x:0",
            "http://fd00::10:9000",
            "http://[fd00::10",
            "http://[fd00::10]9000",
            "http://[192.0.2.1]:9000",
            "http://[minio]:9000",
        ] {
            assert!(!is_http_url(bad), "{bad}");
        }
    }
}
