//! Resolves a name to a cluster. A cluster's name is in every address that its drivers hold, so `sparkha upgrade
//! --side-by-side` creates the next generation under its own name: `etl-2` for `etl`. The name of the first generation
//! remains the alias of the cluster. Commands use the oldest generation with that alias, and submit uses the one that
//! accepts new jobs.

use std::rc::Rc;

use crate::lifecycle::Error;
use crate::lifecycle::inventory::existing;
use crate::platform::{self, Platform};
use crate::render::inventory::Summary;
use crate::spec::names::{Alias, ClusterName};

/// A cluster and its alias.
#[derive(Clone)]
pub struct Generation {
    pub platform: Rc<dyn Platform>,
    pub alias: Option<Alias>,
}

impl Generation {
    /// The name that the user knows the cluster by.
    fn root(&self) -> &ClusterName {
        self.alias.as_ref().map_or(self.platform.name(), |alias| &alias.name)
    }

    /// A later generation. It does not have the alias yet.
    pub fn later(&self, name: ClusterName) -> Self {
        Self {
            platform: self.platform.sibling(&name),
            alias: Some(Alias {
                name: self.root().clone(),
                active: false,
            }),
        }
    }

    /// The generation that an upgrade creates or has created.
    pub async fn next(&self) -> Result<Self, Error> {
        if let Some(next) = self.made_next().await? {
            return Ok(next);
        }
        let root = self.root();
        let mut number = 2;
        loop {
            let name = root.generation(number).map_err(|error| Error::Usage {
                message: format!("the next generation of {root} cannot be named: {error}"),
                help: "upgrade without --side-by-side, or move to a cluster with a shorter name".into(),
            })?;
            let next = self.later(name);
            if next.platform.name() != self.platform.name() && existing(next.platform.as_ref()).await?.is_none() {
                return Ok(next);
            }
            number += 1;
        }
    }

    /// The generation that an upgrade has created and that does not have the alias yet.
    pub async fn made_next(&self) -> Result<Option<Self>, Error> {
        let others = self.platform.known_as(self.root()).await?;
        let names = later(&others, self.platform.name()).into_iter();
        Ok(names.map(|name| self.later(name)).next())
    }
}

/// The cluster with this name or alias.
pub async fn find(named: Rc<dyn Platform>) -> Result<Generation, Error> {
    let summary = match existing(named.as_ref()).await {
        // The command that reads the cluster reports the error.
        Err(Error::Platform(platform::Error::Inventory(_) | platform::Error::Local(_))) => {
            return Ok(Generation {
                platform: named,
                alias: None,
            });
        }
        Err(error) => return Err(error),
        Ok(Some(inventory)) => inventory.cluster,
        Ok(None) => match oldest(named.known_as(named.name()).await?) {
            Some(summary) => summary,
            None => {
                return Ok(Generation {
                    platform: named,
                    alias: None,
                });
            }
        },
    };
    let platform = named.sibling(&summary.name);
    let alias = match summary.alias {
        Some(Alias { name, active: false }) => {
            let is_first = existing(platform.sibling(&name).as_ref()).await?.is_none();
            let active =
                is_first && oldest(platform.known_as(&name).await?).is_none_or(|first| first.name == summary.name);
            Some(Alias { name, active })
        }
        alias => alias,
    };
    Ok(Generation { platform, alias })
}

/// The cluster that accepts the jobs of this one.
pub async fn for_jobs(mut platform: Rc<dyn Platform>) -> Result<Rc<dyn Platform>, Error> {
    // Each successor was created later. A cycle, which only manual edits can cause, ends after a few rounds.
    for _ in 0..8 {
        let inventory = existing(platform.as_ref()).await?;
        let Some(successor) = inventory.as_ref().and_then(|inventory| inventory.successor()) else {
            return Ok(platform);
        };
        platform = platform.sibling(successor);
    }
    Ok(platform)
}

fn oldest(mut generations: Vec<Summary>) -> Option<Summary> {
    generations.sort_by_key(age);
    generations.into_iter().next()
}

/// The generations after `name`.
fn later(generations: &[Summary], name: &ClusterName) -> Vec<ClusterName> {
    let mut waiting: Vec<_> = generations.iter().collect();
    waiting.retain(|summary| summary.active_alias().is_none() && summary.name != *name);
    waiting.sort_by_key(|summary| age(summary));
    waiting.into_iter().map(|summary| summary.name.clone()).collect()
}

/// Sorts the generation with the alias first, then the others by number.
fn age(summary: &Summary) -> (bool, usize, ClusterName) {
    let name = &summary.name;
    (summary.active_alias().is_none(), name.as_str().len(), name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::inventory::Inventory;
    use crate::spec::resolve::{Overrides, resolve};

    fn generation(name: &str, active: bool) -> Summary {
        Inventory::of(&resolve(None, &Overrides::generation(name, active)).unwrap(), &[]).cluster
    }

    #[test]
    fn the_generation_with_the_alias_sorts_first_then_by_number() {
        let all = || {
            vec![
                generation("etl-10", false),
                generation("etl-3", false),
                generation("etl-11", true),
            ]
        };
        assert_eq!(oldest(all()).unwrap().name.as_str(), "etl-11");
        let of = |name: &str| {
            let names = later(&all(), &ClusterName::parse(name).unwrap()).into_iter();
            names.map(|name| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("etl-11"), ["etl-3", "etl-10"]);
        assert_eq!(of("etl-3"), ["etl-10"]);
    }
}
