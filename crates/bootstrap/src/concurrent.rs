//! Doing the same for many, side by side within a bound.

use std::collections::VecDeque;

use agent_runtime::Progress;
use tokio::task::JoinSet;

/// How many requests are under way at once. More gains nothing: the server works them off one by one.
const AT_ONCE: usize = 16;

/// Runs `work` for every item, [`AT_ONCE`] at a time; the results in the items' order, or the first error. `doing` tells
/// on a terminal what is done.
///
/// After an error what is under way is dropped.
pub(crate) async fn for_each<I, T, E, F>(
    doing: &'static str,
    items: Vec<I>,
    work: impl Fn(I) -> F,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting: VecDeque<(usize, I)> = items.into_iter().enumerate().collect();
    let mut under_way = JoinSet::new();
    let mut progress = Progress::begin(doing, waiting.len());
    let mut done = Vec::with_capacity(waiting.len());
    loop {
        while under_way.len() < AT_ONCE {
            let Some((index, item)) = waiting.pop_front() else { break };
            let work = work(item);
            under_way.spawn(async move { work.await.map(|result| (index, result)) });
        }
        match under_way.join_next().await {
            Some(Ok(result)) => {
                done.push(result?);
                progress.step();
            }
            Some(Err(failure)) => std::panic::resume_unwind(failure.into_panic()),
            None => break,
        }
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn keeps_the_order_and_the_bound() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |item: usize| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                for _ in 0..(item % 7) {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, ()>(item * 2)
            }
        };
        let results = for_each("counting", (0..100).collect(), work).await.unwrap();
        assert_eq!(results, (0..100).map(|item| item * 2).collect::<Vec<_>>());
        assert!((2..=AT_ONCE).contains(&most.load(Ordering::Relaxed)));
    }

    #[tokio::test]
    async fn the_first_error_ends_it() {
        let work = async |item: usize| if item == 3 { Err(item) } else { Ok(item) };
        assert_eq!(for_each("counting", (0..10).collect(), work).await, Err(3));
    }
}
