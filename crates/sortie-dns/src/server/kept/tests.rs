use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use super::{Kept, OF_ONE, Way};

/// How long anything may take. Only a failure waits for it.
const LIMIT: Duration = Duration::from_mins(1);

fn way(last: u8) -> Way {
    Way {
        server: SocketAddr::from(([192, 0, 2, 53], 853)),
        source: Some([203, 0, 113, last].into()),
        mark: 0,
    }
}

/// Yields the server's end.
fn keep(kept: &Kept, way: Way) -> DuplexStream {
    let (ours, theirs) = duplex(16);
    kept.keep(way, Box::new(ours));
    theirs
}

async fn ends(end: &mut DuplexStream, limit: Duration) -> bool {
    let mut byte = [0];
    matches!(timeout(limit, end.read(&mut byte)).await, Ok(Ok(0)))
}

#[tokio::test]
async fn none_goes_another_way() {
    let kept = Kept::default();
    let _end = keep(&kept, way(11));
    assert!(kept.take(&way(12)).is_none());
    assert!(kept.take(&way(11)).is_some());
    assert!(kept.take(&way(11)).is_none());
}

#[tokio::test]
async fn of_one_way_the_last_few_are_kept() {
    let kept = Kept::default();
    let mut all: Vec<_> = (0..=OF_ONE).map(|_| keep(&kept, way(11))).collect();
    assert!(ends(&mut all[0], LIMIT).await);
    assert!(!ends(&mut all[1], Duration::ZERO).await);
}

#[tokio::test]
async fn what_nobody_uses_ends() {
    let kept = Kept::for_so_long(Duration::from_millis(20));
    for _ in 0..2 {
        let mut all = [keep(&kept, way(11)), keep(&kept, way(12))];
        for end in &mut all {
            assert!(ends(end, LIMIT).await);
        }
        assert!(kept.take(&way(11)).is_none());
    }
}
