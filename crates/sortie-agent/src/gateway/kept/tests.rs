use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::*;

/// In this namespace, with these sockets of a former gateway, and what a manager would be told.
fn kept(left: &[&str], sockets: Vec<OwnedFd>) -> (Kept, mpsc::Receiver<Order>) {
    let (manager, told) = mpsc::channel();
    let former = sockets
        .into_iter()
        .map(|socket| Former::of(socket).unwrap());
    let known = Known {
        former: former.collect(),
        left: left.iter().map(ToString::to_string).collect(),
        bundles: BTreeMap::new(),
    };
    let kept = Kept {
        host: Namespace::current().unwrap().identity(),
        known: Arc::new(Mutex::new(known)),
        manager: Some(manager),
    };
    (kept, told)
}

/// What was told, in words.
fn told(orders: &mpsc::Receiver<Order>) -> Vec<String> {
    let words = |order| match order {
        Order::Keep(name, bundles) => {
            let sockets = bundles.iter().map(|it| bundle::untie(it).unwrap().len());
            format!("keep {} as {name}", sockets.sum::<usize>())
        }
        Order::GiveUp(name) => format!("give up {name}"),
    };
    orders.try_iter().map(words).collect()
}

fn elsewhere<T: Send>(open: impl FnOnce() -> T + Send) -> (Identity, T) {
    let namespace = Namespace::anonymous().unwrap();
    let opened = namespace.enter(open).unwrap();
    (namespace.identity(), opened)
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()
}

fn numbers(sockets: &[OwnedFd]) -> Vec<RawFd> {
    sockets.iter().map(AsRawFd::as_raw_fd).collect()
}

fn borrowed(sockets: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(AsFd::as_fd).collect()
}

#[test]
fn names_are_what_a_manager_takes_and_fit_into_one_variable() {
    let namespace = Identity {
        device: 4,
        inode: u64::from(u32::MAX),
    };
    let workload = of_workload(namespace);
    assert_eq!(workload, "w-4294967295");
    // As many as the unit allows, with a separator each; execve(2) takes 128 KiB.
    assert!((workload.len() + 1) * 8_192 + "LISTEN_FDNAMES=".len() < 128 * 1_024);
    let addresses = [
        "192.168.20.2:3128",
        "[2001:db8::1]:3128",
        "[2001:db8:1::]:3128",
    ];
    let names = addresses.map(|at| of_host("proxy", at.parse().unwrap()));
    assert_eq!(names[0], "proxy-192.168.20.2_3128");
    for name in &names {
        assert!(!name.contains(':') && name.len() < 256, "{name}");
    }
    assert_ne!(names[1], names[2]);
}

/// Whatever it is called: of another namespace nothing is taken.
#[test]
fn a_socket_is_claimed_where_it_is() {
    let (here, there) = (listener(), elsewhere(listener));
    let at = here.local_addr().unwrap();
    let (namespace, other) = there;
    // Of the same address, elsewhere.
    let (third, same) = elsewhere(move || TcpListener::bind(at).unwrap());
    let numbers_of = [&here, &other, &same].map(AsRawFd::as_raw_fd);
    let (kept, _told) = kept(&[], vec![here.into(), other.into(), same.into()]);
    let nobody = Namespace::anonymous().unwrap().identity();
    assert!(kept.claim(nobody).is_empty());
    assert_eq!(numbers(&kept.claim(namespace)), numbers_of[1..2]);
    assert!(kept.claim(namespace).is_empty(), "it is taken");
    assert_eq!(numbers(&kept.claim_on_host(at)), numbers_of[..1]);
    assert!(kept.claim_on_host(at).is_empty());
    assert_eq!(numbers(&kept.claim(third)), numbers_of[2..]);
}

#[test]
fn what_is_kept_already_is_not_told_again() {
    let (namespace, sockets) = elsewhere(|| {
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        vec![OwnedFd::from(listener()), udp.into()]
    });
    let name = of_workload(namespace);
    let (kept, orders) = kept(&[&name], sockets);
    let mut sockets = kept.claim(namespace);
    let claimed = numbers(&sockets);
    kept.keep(name.clone(), &claimed, &borrowed(&sockets));
    assert!(told(&orders).is_empty());
    // A second time it is another one's, and with one more it is another bundle.
    kept.keep(name.clone(), &claimed, &borrowed(&sockets));
    sockets.push(listener().into());
    kept.keep(name.clone(), &claimed, &borrowed(&sockets));
    let expected = [format!("keep 2 as {name}"), format!("keep 3 as {name}")];
    assert_eq!(told(&orders), expected);
    // A next one gets the latter.
    let bundles = kept.bundles();
    assert_eq!(bundles.len(), 1);
    assert_eq!(bundle::untie(&bundles[0]).unwrap().len(), 3);
    kept.give_up(name.clone());
    assert_eq!(told(&orders), [format!("give up {name}")]);
    assert!(kept.bundles().is_empty());
}

#[test]
fn with_fewer_than_were_left_they_are_told_again() {
    let sockets = vec![listener().into(), listener().into()];
    let (kept, orders) = kept(&["proxy"], sockets);
    let mut sockets = kept.claim(kept.host);
    let claimed = numbers(&sockets);
    sockets.pop();
    kept.keep("proxy".to_owned(), &claimed, &borrowed(&sockets));
    assert_eq!(told(&orders), ["keep 1 as proxy"]);
}

#[test]
fn what_nobody_claims_is_closed_and_given_up() {
    let (here, (namespace, gone)) = (listener(), elsewhere(listener));
    let at = here.local_addr().unwrap();
    let left = ["proxy", "w-1", "w-2"];
    let (kept, orders) = kept(&left, vec![here.into(), gone.into()]);
    let sockets = kept.claim_on_host(at);
    kept.keep("proxy".to_owned(), &numbers(&sockets), &borrowed(&sockets));
    kept.all_are_known();
    assert_eq!(told(&orders), ["give up w-1", "give up w-2"]);
    assert!(kept.claim(namespace).is_empty());
    kept.all_are_known();
    assert!(told(&orders).is_empty(), "once");
}
