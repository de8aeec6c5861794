//! A client for one Kubernetes cluster. Every request goes through [`Cluster`], which bounds it in time, retries transient errors,
//! counts requests, and classifies errors by their remedy.

mod access;
mod connect;
pub mod drivers;
mod error;
mod exec;
mod forward;
pub mod lock;
pub mod namespace;
mod nodes;
mod pause;
mod platform;
mod pod_table;
mod proxy;
mod removal;
pub mod slim;
mod warnings;
pub mod watch;

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use futures::future::BoxFuture;
use futures::{Stream, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, ObjectList, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::{NamespaceResourceScope, ObjectMeta, Resource};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;

pub use connect::{ConnectOptions, connect};
use error::CredentialPlugin;
pub use error::Error;
pub use forward::ForwardGuard;
pub use nodes::NodeReader;
pub use pause::unless_paused;
pub use platform::KubernetesPlatform;

use crate::model::kind::Kind;
use crate::spec::names::Namespace;

/// The field manager under which sparkha owns fields.
pub const FIELD_MANAGER: &str = "sparkha";

/// How long one request may take. Watches are not bounded.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Most objects in one page of a list. 2,000 pods are 16 MB.
const PAGE: u32 = 2000;
/// The same, where only a part of each object is kept.
const PAGE_OF_PARTS: u32 = 500;

/// Retries of a request that failed with a transient error: 8 attempts over about 13 s.
const RETRIES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_factor(2.0)
    .with_max_times(7);

/// One namespace of one Kubernetes cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: Arc<ApiEndpoint>,
    namespace: Namespace,
    requests: Arc<AtomicU32>,
    fence: Option<Arc<dyn Fence>>,
}

/// The API server, and what its clients need to reach it: for messages.
#[derive(Clone, Debug, Default)]
struct ApiEndpoint {
    address: String,
    proxy: Option<String>,
    plugin: Option<CredentialPlugin>,
}

impl Display for ApiEndpoint {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address)?;
        match &self.proxy {
            Some(proxy) => write!(formatter, " through the proxy {proxy}"),
            None => Ok(()),
        }
    }
}

/// A condition that must hold for every write.
pub trait Fence: Send + Sync {
    /// The time at which `action` was still allowed.
    ///
    /// # Errors
    /// If `action` is no longer allowed.
    fn check<'a>(&'a self, action: &'a str) -> BoxFuture<'a, Result<SystemTime, Error>>;
}

impl Cluster {
    fn new(client: Client, server: ApiEndpoint, namespace: Namespace) -> Self {
        Self {
            client,
            server: Arc::new(server),
            namespace,
            requests: Arc::default(),
            fence: None,
        }
    }

    /// The same cluster, whose writes are sent only while the fence holds. The fence is checked before every attempt: a retry may be sent
    /// long after the first attempt.
    pub fn with_fence(&self, fence: Arc<dyn Fence>) -> Self {
        Self {
            fence: Some(fence),
            ..self.clone()
        }
    }

    /// A cluster whose API server sends these responses.
    #[cfg(test)]
    pub fn of_server<F>(
        respond: impl Fn(hyper::Request<kube::client::Body>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = String> + Send + 'static,
    {
        let server = tower::service_fn(move |request| {
            let body = respond(request);
            async {
                Ok::<_, std::convert::Infallible>(hyper::Response::new(kube::client::Body::from(
                    body.await.into_bytes(),
                )))
            }
        });
        let namespace = Namespace::parse("etl").expect("a namespace");
        Self::new(Client::new(server, "etl"), ApiEndpoint::default(), namespace)
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The API server's address.
    pub fn server(&self) -> &str {
        &self.server.address
    }

    /// The same cluster, another namespace.
    pub fn in_namespace(&self, namespace: Namespace) -> Self {
        Self {
            namespace,
            ..self.clone()
        }
    }

    /// The client itself, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The number of requests that this cluster and its clones have sent, retries and watches included.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a request that is not sent through this type (a watch).
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Objects of one of sparkha's kinds in this namespace.
    fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.namespace.as_str(), &kind.api_resource())
    }

    /// Objects of a typed kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), self.namespace.as_str())
    }

    /// An object of one of sparkha's kinds by name; `None` if it does not exist.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, Error> {
        let api = self.objects(kind);
        self.call(&format!("read {kind} {name}"), || api.get_opt(name)).await
    }

    /// Objects of one of sparkha's kinds by label selector.
    pub async fn list(&self, kind: Kind, selector: &str) -> Result<Vec<DynamicObject>, Error> {
        let api = self.objects(kind);
        let params = ListParams::default().labels(selector);
        let list = self
            .call(&format!("list {}", kind.plural()), || api.list(&params))
            .await?;
        Ok(list.items)
    }

    /// Metadata of all objects of one of sparkha's kinds in this namespace, those of other tools included.
    pub async fn list_names(&self, kind: Kind) -> Result<Vec<ObjectMeta>, Error> {
        let api = &self.objects(kind);
        let action = format!("list {}", kind.plural());
        let params = ListParams::default().limit(PAGE);
        self.pages(action, params, |params| async move { api.list_metadata(&params).await })
            .map_ok(|page| page.into_iter().map(|object| object.metadata).collect::<Vec<_>>())
            .try_concat()
            .await
    }

    /// Objects of a typed kind by label selector (empty: all).
    pub async fn list_of<K>(&self, selector: &str) -> Result<Vec<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        self.list_in(&self.api::<K>(), selector).await
    }

    /// Objects of a typed kind in the scope of `api`, page by page so that a large cluster costs little memory.
    pub async fn list_in<K>(&self, api: &Api<K>, selector: &str) -> Result<Vec<K>, Error>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        self.pages_in(api, selector, PAGE).try_concat().await
    }

    /// What `part` takes of each object of a typed kind in the scope of `api`, page by page so that the objects are never all in memory.
    pub async fn list_parts<K, T>(
        &self,
        api: &Api<K>,
        selector: &str,
        part: impl Fn(&K) -> Option<T>,
    ) -> Result<Vec<T>, Error>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        self.pages_in(api, selector, PAGE_OF_PARTS)
            .map_ok(|page| page.iter().filter_map(&part).collect::<Vec<_>>())
            .try_concat()
            .await
    }

    fn pages_in<'a, K>(
        &'a self,
        api: &'a Api<K>,
        selector: &str,
        limit: u32,
    ) -> impl Stream<Item = Result<Vec<K>, Error>> + 'a
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + 'a,
        K::DynamicType: Default,
    {
        let action = format!("list {}", K::plural(&K::DynamicType::default()));
        let params = ListParams::default().labels(selector).limit(limit);
        self.pages(action, params, move |params| async move { api.list(&params).await })
    }

    /// A list, page by page. `list` requests one page.
    fn pages<'a, K, F>(
        &'a self,
        action: String,
        params: ListParams,
        list: impl Fn(ListParams) -> F + 'a,
    ) -> impl Stream<Item = Result<Vec<K>, Error>> + 'a
    where
        K: Clone + 'a,
        F: Future<Output = Result<ObjectList<K>, kube::Error>> + 'a,
    {
        stream::try_unfold((Some(params), list, action), move |(params, list, action)| async move {
            let Some(params) = params else { return Ok(None) };
            let page = self.call(&action, || list(params.clone())).await?;
            let next = match page.metadata.continue_ {
                Some(token) if !token.is_empty() => Some(params.continue_token(&token)),
                _ => None,
            };
            Ok(Some((page.items, (next, list, action))))
        })
    }

    /// Server-side apply. `force` takes fields from other managers.
    pub async fn apply(
        &self,
        kind: Kind,
        name: &str,
        object: &serde_json::Value,
        force: bool,
    ) -> Result<DynamicObject, Error> {
        self.apply_in(&self.objects(kind), kind.name(), name, object, force)
            .await
    }

    /// As [`Cluster::apply`], for any kind.
    pub async fn apply_in(
        &self,
        api: &Api<DynamicObject>,
        kind: &str,
        name: &str,
        object: &serde_json::Value,
        force: bool,
    ) -> Result<DynamicObject, Error> {
        let mut params = PatchParams::apply(FIELD_MANAGER);
        if force {
            params = params.force();
        }
        let patch = Patch::Apply(object);
        self.write(&format!("apply {kind} {name}"), || api.patch(name, &params, &patch))
            .await
    }

    /// Merge patch of one of sparkha's own objects.
    pub async fn merge(&self, kind: Kind, name: &str, patch: &serde_json::Value) -> Result<DynamicObject, Error> {
        let api = self.objects(kind);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        self.write(&format!("change {kind} {name}"), || api.patch(name, &params, &patch))
            .await
    }

    /// Changes an object if it still has the resource version with which it was read.
    pub async fn merge_if_unchanged(
        &self,
        kind: Kind,
        read: &DynamicObject,
        mut patch: serde_json::Value,
    ) -> Result<DynamicObject, Error> {
        patch["metadata"]["resourceVersion"] = read.resource_version().into();
        self.merge(kind, &read.name_any(), &patch).await
    }

    /// Deletes an object if it still has the resource version with which it was read.
    pub async fn delete_if_unchanged(&self, kind: Kind, read: &DynamicObject) -> Result<(), Error> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: read.uid(),
            resource_version: read.resource_version(),
        });
        self.delete_with(&self.objects(kind), kind.name(), &read.name_any(), &params)
            .await
    }

    /// Deletes an object if it still has this UID. An object that is already gone is no error.
    pub async fn delete(&self, kind: Kind, name: &str, uid: Option<String>) -> Result<(), Error> {
        self.delete_in(&self.objects(kind), kind.name(), name, uid).await
    }

    /// As [`Cluster::delete`], for any kind.
    pub async fn delete_in<K>(&self, api: &Api<K>, kind: &str, name: &str, uid: Option<String>) -> Result<(), Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let params = of_uid(DeleteParams::background(), uid);
        self.delete_with(api, kind, name, &params).await
    }

    /// As [`Cluster::delete_in`], but sends one request only, and none after `until`: then what the caller knows is too old. False if
    /// nothing was sent.
    pub async fn delete_until<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        name: &str,
        uid: Option<String>,
        until: SystemTime,
    ) -> Result<bool, Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let action = format!("delete {kind} {name}");
        if let Some(fence) = &self.fence {
            fence.check(&action).await?;
        }
        let Ok(remaining) = until.duration_since(SystemTime::now()) else {
            return Ok(false);
        };
        let params = of_uid(DeleteParams::background(), uid);
        let deleted = self.once(&action, remaining, api.delete(name, &params)).await;
        gone(deleted.map(|_| ())).map(|()| true)
    }

    /// Deletes an object if it still has this UID, and orphans its dependents.
    pub async fn delete_alone(&self, kind: Kind, name: &str, uid: Option<String>) -> Result<(), Error> {
        let params = of_uid(DeleteParams::orphan(), uid);
        self.delete_with(&self.objects(kind), kind.name(), name, &params).await
    }

    /// Deletes a pod if its UID is still the same. `grace_seconds` replaces the pod's own grace period; 0 removes the pod from the API server
    /// at once and kills it.
    pub async fn delete_pod(&self, pod: &Pod, grace_seconds: Option<u32>) -> Result<(), Error> {
        let mut params = of_uid(DeleteParams::background(), pod.uid());
        params.grace_period_seconds = grace_seconds;
        self.delete_with(&self.api::<Pod>(), "Pod", &pod.name_any(), &params)
            .await
    }

    async fn delete_with<K>(&self, api: &Api<K>, kind: &str, name: &str, params: &DeleteParams) -> Result<(), Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let action = format!("delete {kind} {name}");
        gone(self.write(&action, || api.delete(name, params)).await.map(|_| ()))
    }

    /// Creates an object of any kind.
    pub async fn create<K>(&self, api: &Api<K>, object: &K, action: &str) -> Result<K, Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug + serde::Serialize,
    {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        self.write(action, || api.create(&params, object)).await
    }

    /// The API groups and their versions, without the core group.
    pub async fn api_groups(&self) -> Result<Vec<APIGroup>, Error> {
        let client = self.client();
        Ok(self.call("list API groups", || client.list_api_groups()).await?.groups)
    }

    /// Whether the server has EndpointSlices in their stable version: from 1.21 on.
    pub async fn has_endpoint_slices(&self) -> Result<bool, Error> {
        let groups = self.api_groups().await?;
        let mut versions = groups.iter().flat_map(|group| &group.versions);
        Ok(versions.any(|version| version.group_version == "discovery.k8s.io/v1"))
    }

    /// Sends one read-only request: bounded in time, and retried on transient errors.
    pub async fn call<T, F>(&self, action: &str, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.send(action, None, request).await
    }

    /// As [`Cluster::call`], for a write: sent only while the fence holds, if there is one.
    async fn write<T, F>(&self, action: &str, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.send(action, self.fence.as_deref(), request).await
    }

    async fn send<T, F>(&self, action: &str, fence: Option<&dyn Fence>, request: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        // An error of the fence is final: wrapped in an `Ok`, it is not retried.
        let attempt = || async {
            loop {
                let once = self.once(action, REQUEST_TIMEOUT, request());
                let Some(fence) = fence else {
                    return once.await.map(Ok);
                };
                let checked = match fence.check(action).await {
                    Ok(checked) => checked,
                    Err(error) => return Ok(Err(error)),
                };
                // After a pause the fence must be checked again.
                if let Some(outcome) = unless_paused(checked, once).await {
                    return outcome.map(Ok);
                }
            }
        };
        let retried = attempt
            .retry(RETRIES)
            .when(Error::is_transient)
            .notify(|error, delay| tracing::info!("{error}; trying again in {} ms", delay.as_millis()));
        retried.await?
    }

    /// Sends one request without retries.
    async fn once<T>(
        &self,
        action: &str,
        within: Duration,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        self.count_request();
        tracing::debug!(action, "request");
        match tokio::time::timeout(within, request).await {
            Ok(outcome) => outcome.map_err(|error| Error::from_kube(error, action, &self.server)),
            Err(_) => Err(Error::TimedOut {
                action: action.to_owned(),
                server: self.server.to_string(),
                after: within,
            }),
        }
    }
}

/// What is already gone is deleted.
fn gone(deleted: Result<(), Error>) -> Result<(), Error> {
    match deleted {
        Err(Error::Rejected { code: 404, .. }) => Ok(()),
        deleted => deleted,
    }
}

/// Deletes only the object with this UID, if there is one.
fn of_uid(mut params: DeleteParams, uid: Option<String>) -> DeleteParams {
    params.preconditions = uid.map(|uid| Preconditions {
        uid: Some(uid),
        resource_version: None,
    });
    params
}
