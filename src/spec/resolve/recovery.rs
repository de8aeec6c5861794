//! The masters' recovery: from a managed or external ZooKeeper, or for a single master from files.

use super::{DEFAULT_FAILOVER_SECONDS, Overrides, Resolver, pods, rules};
use crate::spec::file::tree::join;
use crate::spec::file::{ClaimFile, ClusterFile, ExternalFile, ZooKeeperFile};
use crate::spec::names::{ClusterName, Namespace, is_dns_subdomain};
use crate::spec::overrides::external_of;
use crate::spec::quantity::{Cpu, Memory};
use crate::spec::{ExternalZooKeeper, ManagedZooKeeper, NewClaim, Recovery};

impl Resolver {
    pub(super) fn recovery(
        &mut self,
        file: &ClusterFile,
        flags: &Overrides,
        masters: u32,
        name: Option<&ClusterName>,
        namespace: Option<&Namespace>,
    ) -> Option<Recovery> {
        let zookeeper = file.zookeeper.clone();
        let flag = flags.zookeeper.as_ref().map(|_| "--zookeeper");
        let from_file = zookeeper.as_ref().and_then(|zookeeper| zookeeper.external.clone());
        let external = match &flags.zookeeper {
            Some(text) => {
                let (servers, chroot) = external_of(text);
                Some(ExternalFile {
                    servers,
                    chroot,
                    secret: from_file.and_then(|external| external.secret),
                })
            }
            None => from_file,
        };
        if let Some(external) = external {
            if flag.is_none() {
                self.refuse_managed_keys(zookeeper.unwrap_or_default());
            }
            return self.external(external, flag, name?, namespace);
        }
        match zookeeper {
            Some(zookeeper) => self.managed(zookeeper),
            None if masters > 1 => self.managed(ZooKeeperFile::default()),
            None => {
                let storage = file.masters.as_ref().and_then(|masters| masters.storage.clone());
                let storage = storage.map(|claim| self.claim("masters.storage", claim));
                Some(Recovery::FileSystem {
                    storage: storage.flatten(),
                })
            }
        }
    }

    fn refuse_managed_keys(&mut self, zookeeper: ZooKeeperFile) {
        let set = [
            ("count", zookeeper.count.is_some()),
            ("storage", zookeeper.storage.is_some()),
            ("failoverSeconds", zookeeper.failover_seconds.is_some()),
            ("daemonMemory", zookeeper.daemon_memory.is_some()),
            ("resources", zookeeper.pod.resources.is_some()),
            ("env", zookeeper.pod.env.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, set)| *set) {
            self.problem(
                &format!("zookeeper.{key}"),
                "sparkha does not configure an external ensemble",
                "remove this, or remove zookeeper.external",
            );
        }
    }

    fn managed(&mut self, zookeeper: ZooKeeperFile) -> Option<Recovery> {
        let count = zookeeper.count.unwrap_or(3);
        if ![1, 3, 5].contains(&count) {
            self.problem(
                "zookeeper.count",
                format!("{count} ZooKeeper servers are not supported"),
                "choose 1, 3 or 5: an even number tolerates no more losses than the odd one below it",
            );
        }
        let failover_seconds = zookeeper.failover_seconds.unwrap_or(DEFAULT_FAILOVER_SECONDS);
        if !(2..=40).contains(&failover_seconds) {
            self.problem(
                "zookeeper.failoverSeconds",
                format!("{failover_seconds} s is out of range"),
                "choose 2 to 40; with a low number, a busy machine can cause an unnecessary failover",
            );
        }
        let daemon_memory = self.memory(
            "zookeeper.daemonMemory",
            &zookeeper.daemon_memory,
            Memory::from_mib(128),
        );
        let defaults = pods::Defaults {
            cpu_limit: Cpu::from_millis(500),
            cpu_request: Cpu::from_millis(50),
            memory: Memory::from_mib(384),
        };
        let pod = self.pod("zookeeper", zookeeper.pod, defaults);
        self.heap_fits("zookeeper", "daemonMemory", daemon_memory, pod.resources.memory_limit);
        let storage = zookeeper.storage.map(|claim| self.claim("zookeeper.storage", claim));
        Some(Recovery::ManagedZooKeeper(Box::new(ManagedZooKeeper {
            count,
            storage: storage.flatten(),
            failover_seconds,
            daemon_memory,
            pod,
        })))
    }

    fn external(
        &mut self,
        external: ExternalFile,
        flag: Option<&'static str>,
        name: &ClusterName,
        namespace: Option<&Namespace>,
    ) -> Option<Recovery> {
        let ExternalFile {
            servers,
            chroot,
            secret,
        } = external;
        if let Some(secret) = &secret {
            self.object_name("zookeeper.external.secret", secret);
        }
        let path = "zookeeper.external.servers";
        if servers.is_empty() {
            self.problem_in(path, flag, "servers are missing", "set at least one, as host:port");
        }
        for (at, server) in servers.iter().enumerate() {
            let path = format!("{path}[{at}]");
            if let Err(reason) = rules::host_port(server) {
                self.problem_in(
                    &path,
                    flag,
                    format!("`{server}` is not a host:port: {reason}"),
                    "write it like zookeeper-0.example:2181",
                );
            } else if servers[..at].contains(server) {
                self.problem_in(
                    &path,
                    flag,
                    format!("`{server}` is listed twice"),
                    "list each server once",
                );
            }
        }
        let chroot = chroot.unwrap_or_default();
        if let Err(reason) = rules::znode(&chroot) {
            self.problem_in(
                "zookeeper.external.chroot",
                flag,
                format!("`{chroot}` is not a path of a znode: {reason}"),
                "write it like /spark",
            );
        }
        let namespace = namespace.map_or_else(String::new, |namespace| format!("/{namespace}"));
        Some(Recovery::ExternalZooKeeper(ExternalZooKeeper {
            servers,
            directory: format!("{}/sparkha{namespace}/{name}", chroot.trim_end_matches('/')),
            secret,
        }))
    }

    pub(super) fn claim(&mut self, path: &str, claim: ClaimFile) -> Option<NewClaim> {
        if let Some(class) = &claim.storage_class_name
            && !is_dns_subdomain(class)
        {
            self.problem(
                &join(path, "storageClassName"),
                format!("`{class}` is not a valid name of a storage class"),
                "`kubectl get storageclass` lists them; omit it for the default class",
            );
        }
        let size = self.memory_of(&join(path, "size"), &claim.size);
        Some(NewClaim {
            size: size?,
            storage_class: claim.storage_class_name,
            access_mode: claim
                .access_mode
                .map_or_else(|| "ReadWriteOnce".into(), |mode| format!("{mode:?}")),
        })
    }
}
