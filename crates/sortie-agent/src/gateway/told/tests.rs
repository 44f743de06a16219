use super::*;

fn told(address: [u8; 4], answered: [u8; 4]) -> api::Told {
    api::Told {
        address: address.into(),
        answered: Some(answered.into()),
    }
}

/// What stands in for an address goes on to mean it, when it is told a second time on its way from
/// the engine's resolver to the workload.
#[test]
fn a_stand_in_that_is_told_again_means_the_same() {
    const REAL: [u8; 4] = [198, 51, 100, 7];
    const STAND_IN: [u8; 4] = [198, 18, 0, 1];
    let (known, web) = (Told::default(), WorkloadId::from("docker/web".to_owned()));
    known.note(&web, "bank.example", &[told(REAL, REAL)]);
    known.note(&web, "shop.example", &[told(REAL, STAND_IN)]);
    known.note(&web, "shop.example", &[told(STAND_IN, STAND_IN)]);
    let meant = |address: [u8; 4]| {
        known
            .named(&web, address.into())
            .map(|(name, real)| (name.to_string(), real))
    };
    assert_eq!(
        meant(STAND_IN),
        Some(("shop.example".to_owned(), REAL.into()))
    );
    assert_eq!(meant(REAL), Some(("bank.example".to_owned(), REAL.into())));
}
