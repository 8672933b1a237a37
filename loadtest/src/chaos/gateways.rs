//! Where members connect to: a list that changes while they come and go.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::GatewayUrl;

/// The gateways that there are. Clones share one list.
#[derive(Clone, Debug)]
pub(crate) struct Gateways(Arc<RwLock<Vec<GatewayUrl>>>);

impl Gateways {
    /// Gateways, or proxies before them, at these addresses.
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self::at(addresses.iter().map(GatewayUrl::from).collect())
    }

    /// Gateways at these URLs.
    pub(crate) fn at(urls: Vec<GatewayUrl>) -> Self {
        Self(Arc::new(RwLock::new(urls)))
    }

    /// Replaces the list. Who is connected stays; who connects from now on takes one of these.
    pub(crate) fn set(&self, addresses: Vec<SocketAddr>) {
        let urls = addresses.iter().map(GatewayUrl::from).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// One of them at random, another than `failed` where there is another; `None` where there is
    /// none at all.
    pub(crate) fn choose(
        &self,
        rng: &mut fastrand::Rng,
        failed: Option<&GatewayUrl>,
    ) -> Option<GatewayUrl> {
        let all = self.all();
        let others = all.iter().filter(|url| Some(*url) != failed);
        let others = others.collect::<Vec<_>>();
        match others.is_empty() {
            true => rng.choice(&all).cloned(),
            false => rng.choice(others).cloned(),
        }
    }

    /// All of them, as they are now.
    pub(crate) fn all(&self) -> Vec<GatewayUrl> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_at_one_takes_another_while_there_is_one() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let gateways = Gateways::new(vec![address(1), address(2), address(3)]);
        let mut rng = fastrand::Rng::with_seed(1);
        let failed = GatewayUrl::from(&address(2));
        let mut chosen = (0..100)
            .map(|_| gateways.choose(&mut rng, Some(&failed)).unwrap())
            .collect::<Vec<_>>();
        chosen.sort_unstable_by(|a, b| a.authority().cmp(b.authority()));
        chosen.dedup();
        assert_eq!(chosen.len(), 2, "{chosen:?}");
        assert!(!chosen.contains(&failed));

        gateways.set(vec![address(2)]);
        assert_eq!(
            gateways.choose(&mut rng, Some(&failed)),
            Some(failed),
            "rather the same than none"
        );
        gateways.set(Vec::new());
        assert_eq!(gateways.choose(&mut rng, None), None);
    }
}
