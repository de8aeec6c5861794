//! Reports the warnings of the API server, such as deprecated versions of a kind or violations of Pod Security, each once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use hyper::header::{ACCEPT, HeaderMap, WARNING};
use hyper::{Request, Response};
use tower::{Layer, Service};

/// Adds the reports to a client.
#[derive(Clone, Default)]
pub struct WarningLayer {
    reported: Arc<Mutex<BTreeSet<String>>>,
}

impl<S> Layer<S> for WarningLayer {
    type Service = WarningService<S>;

    fn layer(&self, inner: S) -> WarningService<S> {
        WarningService {
            inner,
            layer: self.clone(),
        }
    }
}

#[derive(Clone)]
pub struct WarningService<S> {
    inner: S,
    layer: WarningLayer,
}

impl<S, A, B> Service<Request<A>> for WarningService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        // Only metadata is listed of kinds that sparkha does not use itself, to know what else is in a namespace.
        let accepts = request.headers().get(ACCEPT).and_then(|accepts| accepts.to_str().ok());
        let is_of_others = accepts.is_some_and(|accepts| accepts.contains("PartialObjectMetadata"));
        let layer = self.layer.clone();
        let answered = self.inner.call(request).inspect_ok(move |response| {
            if !is_of_others {
                layer.report(response.headers());
            }
        });
        answered.boxed()
    }
}

impl WarningLayer {
    fn report(&self, headers: &HeaderMap) {
        for warning in self.new_warnings(headers) {
            tracing::warn!("the API server warns: {warning}");
        }
    }

    /// The warnings that were not reported yet.
    fn new_warnings(&self, headers: &HeaderMap) -> Vec<String> {
        let values = headers.get_all(WARNING).iter().filter_map(|value| value.to_str().ok());
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        values
            .flat_map(texts)
            .filter(|text| reported.insert(text.clone()))
            .collect()
    }
}

/// The texts of a `Warning` header: `299 - "first", 299 - "second"`, with backslashes before quotes.
fn texts(header: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut characters = header.chars();
    while characters.any(|character| character == '"') {
        let mut text = String::new();
        while let Some(character) = characters.next().filter(|&character| character != '"') {
            text.extend(if character == '\\' {
                characters.next()
            } else {
                Some(character)
            });
        }
        texts.push(text);
    }
    texts
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn quoted_texts_are_unquoted() {
        assert_eq!(
            texts(r#"299 - "v1 \"Endpoints\" is deprecated", 299 - "C:\\ is no path""#),
            [r#"v1 "Endpoints" is deprecated"#, r"C:\ is no path"]
        );
        assert_eq!(texts("299 - unquoted"), Vec::<String>::new());
        assert_eq!(texts(r#"299 - "cut off"#), ["cut off"]);
    }

    #[tokio::test]
    async fn a_warning_is_reported_once_and_not_for_kinds_of_others() {
        let layer = WarningLayer::default();
        let server = tower::service_fn(|_: Request<()>| async {
            let warning = r#"299 - "v1 Endpoints is deprecated""#;
            Ok::<_, Infallible>(Response::builder().header(WARNING, warning).body(()).unwrap())
        });
        let mut service = layer.layer(server);
        let reported = |layer: &WarningLayer| layer.reported.lock().unwrap().len();
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let request = Request::builder().header(ACCEPT, metadata).body(()).unwrap();
        service.call(request).await.unwrap();
        assert_eq!(reported(&layer), 0);
        let response = service.call(Request::new(())).await.unwrap();
        assert_eq!(reported(&layer), 1);
        assert_eq!(layer.new_warnings(response.headers()), Vec::<String>::new());
    }
}
