//! Any bytes as an HTTP/1 message: what is forwarded of a request is read again as the same
//! request, and forwarded as it is; a body's end does not depend on how the bytes are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sortie_gateway::http1::chunked::Chunked;
use sortie_gateway::http1::request::Request;
use sortie_gateway::http1::response::{Asked, Response};
use sortie_gateway::http1::{FieldSpace, Framing, Limits, Parsed, Version};

fn request(bytes: &[u8]) {
    let mut space = FieldSpace::new();
    let Parsed::Head(mut request) = Request::parse(bytes, &mut space, Limits::default()) else {
        return;
    };
    if request.method == "CONNECT" {
        return;
    }
    let settles = request.settle_path().is_ok();
    let mut once = Vec::new();
    request.write_head(&mut once);
    let mut space = FieldSpace::new();
    let Parsed::Head(mut again) = Request::parse(&once, &mut space, Limits { head: once.len() })
    else {
        panic!("not read again: {:?}", String::from_utf8_lossy(&once));
    };
    if settles {
        again.settle_path().expect("a settled path settles");
    }
    assert_eq!(again.length, once.len());
    assert_eq!((again.method, &again.target), (request.method, &request.target));
    assert_eq!(again.authority, request.authority);
    assert_eq!((again.body, again.upgrades), (request.body, request.upgrades));
    let mut twice = Vec::new();
    again.write_head(&mut twice);
    assert_eq!(once, twice);
    if request.body == Framing::Chunked {
        chunks(&bytes[request.length..]);
    }
}

fn chunks(body: &[u8]) {
    let mut whole = Chunked::new();
    let length = whole.read(body);
    let mut parts = Chunked::new();
    let mut read = Ok(0);
    for byte in body.chunks(1) {
        read = read.and_then(|before| Ok(before + parts.read(byte)?));
    }
    assert_eq!(length, read);
    if length.is_ok() {
        assert_eq!(whole.is_done(), parts.is_done());
    }
}

fn response(bytes: &[u8], asked: Asked) {
    let mut space = FieldSpace::new();
    let limits = Limits::default();
    let Parsed::Head(mut response) = Response::parse(bytes, &mut space, asked, limits) else {
        return;
    };
    response.remove_http3();
    let mut once = Vec::new();
    response.write_head(&mut once, false);
    let mut space = FieldSpace::new();
    let limits = Limits { head: once.len() };
    let Parsed::Head(again) = Response::parse(&once, &mut space, asked, limits) else {
        panic!("not read again: {:?}", String::from_utf8_lossy(&once));
    };
    assert_eq!((again.status, again.body), (response.status, response.body));
}

fuzz_target!(|bytes: &[u8]| {
    request(bytes);
    chunks(bytes);
    for head in [false, true] {
        let asked = Asked {
            head,
            upgrades: head,
            version: Version::Http11,
        };
        response(bytes, asked);
    }
});
