use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::*;
use crate::testing::in_namespace;

#[test]
fn a_refusal_carries_the_kernels_own_words() {
    in_namespace(|| {
        let mut rtnl = Rtnetlink::open().unwrap();
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName("x".repeat(40)));
        let task = Task::new("add interface", "x");
        let error = rtnl
            .change(&task, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE)
            .unwrap_err();
        let Error::Refused { refusal, .. } = &error else {
            panic!("{error}");
        };
        assert!(refusal.message.is_some(), "{error}");
        assert!(error.to_string().contains("add interface x"), "{error}");
    });
}

#[test]
fn an_error_leaves_the_socket_usable() {
    in_namespace(|| {
        let mut rtnl = Rtnetlink::open().unwrap();
        let task = Task::new("delete interface", "0");
        rtnl.change(
            &task,
            RouteNetlinkMessage::DelLink(LinkMessage::default()),
            0,
        )
        .unwrap_err();
        let links = rtnl
            .dump(
                &Task::new("list", "interfaces"),
                &RouteNetlinkMessage::GetLink(LinkMessage::default()),
            )
            .unwrap();
        assert_eq!(links.len(), 1);
    });
}
