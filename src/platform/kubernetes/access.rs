//! Asks the API server what the user may do.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::{Cluster, Error};

impl Cluster {
    /// Whether the user may do this in the namespace: to the object with this name, or to all objects.
    pub async fn may(&self, group: &str, resource: &str, verb: &str, name: Option<&str>) -> Result<bool, Error> {
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client());
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (resource, None),
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: (resource != "namespaces").then(|| self.namespace().to_string()),
                    group: Some(group.into()),
                    resource: Some(resource.into()),
                    subresource,
                    verb: Some(verb.into()),
                    name: name.map(Into::into),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let params = PostParams::default();
        let action = format!("check whether you may {verb} {resource}");
        let answer = self.call(&action, || api.create(&params, &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
