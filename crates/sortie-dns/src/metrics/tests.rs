use prometheus_client::encoding::text;

use super::*;

#[test]
fn a_scrape_finds_what_was_counted() {
    let (metrics, mut registry) = (Metrics::default(), Registry::with_prefix("sortie"));
    metrics.register(&mut registry);
    metrics.ended(Outcome::NotLearned);
    metrics.was_cached();
    metrics.learned(3);
    metrics.serves(2);
    let mut scraped = String::new();
    text::encode(&mut scraped, &registry).expect("text");
    for line in [
        "sortie_dns_queries_total{outcome=\"NotLearned\"} 1",
        "sortie_dns_cached_total 1",
        "sortie_dns_learned_addresses_total 3",
        "sortie_dns_workloads 2",
    ] {
        assert!(scraped.lines().any(|it| it == line), "{line} in {scraped}");
    }
}
