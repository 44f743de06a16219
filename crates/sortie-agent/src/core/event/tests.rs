use super::*;

/// However many reports wait, what is asked for is behind one of their slices only.
#[test]
fn nothing_waits_for_reports() {
    let (handle, events) = Handle::new();
    for _ in 0..AT_ONCE * 3 {
        assert!(handle.report(Report::Lost));
    }
    assert!(handle.tell(Event::Stop));
    let told: Vec<Event> = events.events.try_iter().collect();
    assert!(matches!(told[..], [Event::Reported, Event::Stop]));

    handle.woken.store(false, Ordering::Release);
    assert_eq!(events.reports.try_iter().take(AT_ONCE).count(), AT_ONCE);
    assert!(handle.report(Report::Lost));
    assert!(matches!(events.events.try_recv(), Ok(Event::Reported)));
}

#[test]
fn who_reports_learns_that_the_core_has_ended() {
    let (handle, events) = Handle::new();
    drop(events);
    assert!(!handle.report(Report::Lost));
    assert!(!handle.tell(Event::Stop));
}
