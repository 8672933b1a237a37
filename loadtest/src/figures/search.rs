//! The highest rate that is good.

use super::stage::Broken;

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Messages a second to begin with.
    pub from: f64,
    /// How often what is left between good and bad is halved.
    pub halvings: u32,
}

/// How often the first rate is halved before nothing is good at all.
const DOWN: u32 = 3;

/// What `attempt` gave for the highest rate that was good: doubles until one is not, or halves until one
/// is, and then halves what is between them.
///
/// # Errors
/// As `attempt`.
pub(crate) async fn search<T>(
    rates: Rates,
    attempt: impl AsyncFn(f64) -> Result<Option<T>, Broken>,
) -> Result<Option<T>, Broken> {
    let (mut good, mut bad, mut best) = (None, None, None);
    let mut rate = rates.from;
    let mut halvings = rates.halvings;
    let mut down = DOWN;
    loop {
        match attempt(rate).await? {
            Some(found) => (good, best) = (Some(rate), Some(found)),
            None => bad = Some(rate),
        }
        rate = match (good, bad) {
            (Some(good), None) => good * 2.0,
            (None, Some(_)) if down == 0 => return Ok(None),
            (None, Some(bad)) => {
                down -= 1;
                bad / 2.0
            }
            (Some(good), Some(bad)) if halvings > 0 => {
                halvings -= 1;
                f64::midpoint(good, bad)
            }
            _ => return Ok(best),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn found(from: f64, limit: f64) -> (Option<f64>, Vec<f64>) {
        let tried = Mutex::new(Vec::new());
        let rates = Rates { from, halvings: 3 };
        let best = search(rates, async |rate| {
            tried.lock().unwrap().push(rate);
            Ok((rate <= limit).then_some(rate))
        });
        let best = best.await.unwrap();
        (best, tried.into_inner().unwrap())
    }

    #[tokio::test]
    async fn the_highest_rate_is_found_from_below_and_from_above() {
        let from_below = found(100.0, 250.0).await;
        assert_eq!(
            from_below,
            (Some(250.0), vec![100.0, 200.0, 400.0, 300.0, 250.0, 275.0])
        );
        let from_above = found(1000.0, 300.0).await;
        assert_eq!(from_above.0, Some(281.25));
        let (none, tried) = found(1000.0, 0.0).await;
        assert_eq!((none, tried.len()), (None, 4));
    }
}
