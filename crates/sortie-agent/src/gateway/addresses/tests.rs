use super::*;

#[test]
fn name_servers_are_read_in_their_order() {
    let text = "# made by an engine\nsearch shop.test\nnameserver 127.0.0.11\n\
        nameserver\t2001:db8::53 \nnameserver fe80::1%eth0\nnameserver\noptions ndots:0\n";
    let read = name_servers(text)
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    assert_eq!(read, ["127.0.0.11:53", "[2001:db8::53]:53"]);
}
