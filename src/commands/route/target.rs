//! Arguments for the target and owner of Vulcand's routes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::clients::etcd::{self, Etcd, EtcdLogin};
use crate::clients::vulcand::VulcandApi;
use crate::commands::arguments::Global;
use crate::commands::{bad_flag, heading};
use crate::lifecycle::Error;
use crate::routes::publish::{RoutePublisher, VulcandStore};
use crate::routing::vulcand::Scope;
use crate::spec::names::{Namespace, OwnerName};

/// A variable instead of an argument, which every user of the machine can read.
const PASSWORD: &str = "SPARKHA_ETCD_PASSWORD";

/// Names of Vulcand's routes.
#[derive(Debug, Args)]
pub struct NamingArguments {
    /// Root of Vulcand's keys in etcd
    #[arg(long, value_name = "KEY", default_value = "/vulcand", help_heading = heading::ROUTES)]
    pub etcd_root: String,
    /// Address that the router listens on (nginx, Vulcand)
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", help_heading = heading::ROUTES)]
    pub listen: IpAddr,
    /// Owner of the routes in Vulcand [default: kubernetes, or local with --local]
    ///
    /// Kubernetes clusters and machines that share a Vulcand need different owners.
    #[arg(long, value_name = "NAME", help_heading = heading::ROUTES)]
    owner: Option<String>,
}

impl NamingArguments {
    pub fn owner(&self, global: &Global) -> Result<OwnerName, Error> {
        let default = if global.local { "local" } else { "kubernetes" };
        let owner = self.owner.as_deref().unwrap_or(default);
        OwnerName::parse(owner).map_err(|error| bad_flag("--owner", &error.to_string()))
    }
}

/// Arguments of the target.
#[derive(Debug, Args)]
pub struct TargetArguments {
    /// Vulcand's etcd (3.4 or newer): HOST:PORT or URLs, separated by commas
    #[arg(long, value_name = "HOSTS", value_delimiter = ',', conflicts_with = "vulcand_api", help_heading = heading::VULCAND)]
    etcd: Vec<String>,
    /// CA certificates of etcd (PEM) [default: this machine's]
    #[arg(long, value_name = "FILE", requires = "etcd", help_heading = heading::VULCAND)]
    etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd", requires = "etcd_key", help_heading = heading::VULCAND)]
    etcd_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd", requires = "etcd_cert", help_heading = heading::VULCAND)]
    etcd_key: Option<PathBuf>,
    /// User of etcd; the password is in SPARKHA_ETCD_PASSWORD or a file
    #[arg(long, value_name = "NAME", requires = "etcd", help_heading = heading::VULCAND)]
    etcd_user: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "etcd_user", help_heading = heading::VULCAND)]
    etcd_password_file: Option<PathBuf>,
    /// Vulcand's API, instead of its etcd: http://HOST:8182
    #[arg(long, value_name = "URL", help_heading = heading::VULCAND)]
    vulcand_api: Option<String>,
    #[command(flatten)]
    naming: NamingArguments,
}

impl TargetArguments {
    /// The target.
    pub fn target(&self, global: &Global, ttl: Option<Duration>) -> Result<RoutePublisher, Error> {
        self.target_if_any(global, ttl)?.ok_or_else(|| Error::Usage {
            message: "no Vulcand is configured".into(),
            help: "pass --etcd HOST:2379, or --vulcand-api http://HOST:8182".into(),
        })
    }

    /// The target, if it is configured.
    pub fn target_if_any(&self, global: &Global, ttl: Option<Duration>) -> Result<Option<RoutePublisher>, Error> {
        let server = if let Some(address) = &self.vulcand_api {
            VulcandStore::Api {
                api: VulcandApi::new(address)?,
                kept: BTreeMap::new(),
            }
        } else if self.etcd.is_empty() {
            return Ok(None);
        } else {
            VulcandStore::Etcd {
                etcd: Etcd::new(etcd::EtcdOptions {
                    endpoints: self.etcd.clone(),
                    ca: self.etcd_ca.clone(),
                    certificate: self.etcd_cert.clone(),
                    key: self.etcd_key.clone(),
                    login: self.login()?,
                })?,
                root: self.naming.etcd_root.trim_end_matches('/').to_owned(),
                lease: None,
            }
        };
        Ok(Some(RoutePublisher {
            server,
            owner: self.naming.owner(global)?,
            listen: self.naming.listen,
            ttl,
        }))
    }

    fn login(&self) -> Result<Option<EtcdLogin>, Error> {
        let Some(user) = &self.etcd_user else {
            return Ok(None);
        };
        let password = match &self.etcd_password_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| etcd::Error::File {
                    path: path.clone(),
                    source,
                })?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => std::env::var(PASSWORD).map_err(|_| Error::Usage {
                message: format!("the password of etcd user {user} is missing"),
                help: format!("set {PASSWORD}, or pass --etcd-password-file"),
            })?,
        };
        Ok(Some(EtcdLogin {
            user: user.clone(),
            password,
        }))
    }
}

/// The scope of the routes.
pub fn scope(namespace: &Namespace, all_namespaces: bool) -> Scope {
    match all_namespaces {
        true => Scope::All,
        false => Scope::Namespace(namespace.clone()),
    }
}
