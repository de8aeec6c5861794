//! An error with its causes, on one line.

use std::error::Error;
use std::iter::successors;

/// The messages of the error and all its sources.
pub fn with_sources(error: &dyn Error) -> String {
    let messages: Vec<_> = chain(error).map(ToString::to_string).collect();
    messages.join(": ")
}

/// The message of the root cause.
pub fn root_cause(error: &dyn Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn chain<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = &'a (dyn Error + 'a)> {
    successors(Some(error), |error| (**error).source())
}
