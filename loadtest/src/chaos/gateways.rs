//! Where members connect to.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::GatewayUrl;
use crate::pass::Pass;

/// The gateways that there are, whether they live or not, and how to get in. Clones share one list.
#[derive(Clone, Debug)]
pub(crate) struct Gateways {
    urls: Arc<[GatewayUrl]>,
    /// How members get in.
    pub(crate) pass: Pass,
}

impl Gateways {
    /// Gateways, or proxies before them, at these addresses.
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self::at(
            addresses.iter().map(GatewayUrl::from).collect(),
            Pass::default(),
        )
    }

    /// Gateways at these URLs.
    pub(crate) fn at(urls: Vec<GatewayUrl>, pass: Pass) -> Self {
        let urls = urls.into();
        Self { urls, pass }
    }

    /// One of them at random, another than `failed` where there is another; `None` where there is
    /// none at all.
    pub(crate) fn choose(
        &self,
        rng: &mut fastrand::Rng,
        failed: Option<&GatewayUrl>,
    ) -> Option<GatewayUrl> {
        let others = self.urls.iter().filter(|url| Some(*url) != failed);
        let others = others.collect::<Vec<_>>();
        match others.is_empty() {
            true => rng.choice(&self.urls[..]).cloned(),
            false => rng.choice(others).cloned(),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[GatewayUrl] {
        &self.urls
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

        let only = Gateways::new(vec![address(2)]);
        assert_eq!(
            only.choose(&mut rng, Some(&failed)),
            Some(failed),
            "rather the same than none"
        );
        assert_eq!(Gateways::new(Vec::new()).choose(&mut rng, None), None);
    }
}
