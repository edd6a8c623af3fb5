//! Runs the examples with other people's protocols as processes.

use std::io::{Read, Write};
use std::net::TcpListener;

#[path = "../../../tests/support/mod.rs"]
mod support;

use support::bounded;
use support::program::{Server, example};

const ANY_PORT: &str = "127.0.0.1:0";
const PAGE: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\nHello, world!";

#[test]
fn tls_echo_shakes_hands_with_every_client() {
    let output = bounded(|| example("tls_echo").arg("300").output().unwrap());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "300 of 300 connections had their message echoed\n"
    );
    assert_eq!(support::stderr(&output), "");
}

#[test]
fn websocket_sends_every_message_back() {
    bounded(|| {
        let server = Server::start(example("websocket").arg(ANY_PORT));
        let clients = [(); 20].map(|()| {
            let url = format!("ws://{}/", server.address);
            tungstenite::client(url, server.connect()).unwrap().0
        });
        for mut client in clients {
            for message in ["short".to_owned(), String::new(), "long".repeat(50_000)] {
                client
                    .send(tungstenite::Message::text(message.as_str()))
                    .unwrap();
                assert_eq!(client.read().unwrap().to_text().unwrap(), message);
            }
            client.close(None).unwrap();
            assert!(matches!(client.read(), Ok(tungstenite::Message::Close(_))));
            assert!(matches!(
                client.read(),
                Err(tungstenite::Error::ConnectionClosed)
            ));
        }
    });
}

/// Answers each connection with the same page, on an OS thread for each, until the process ends.
fn serve_page(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    return;
                }
                request.push(byte[0]);
            }
            // The client may have gone; then its own test fails.
            let _ = stream.write_all(PAGE.as_bytes());
        });
    }
}

#[test]
fn http_client_fetches_a_page_many_times_at_once() {
    bounded(|| {
        let listener = TcpListener::bind(ANY_PORT).unwrap();
        let url = format!(
            "http://localhost:{}/plaintext",
            listener.local_addr().unwrap().port()
        );
        std::thread::spawn(move || serve_page(listener));
        let output = example("http_client").args([&url, "200"]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "200 pages, 2600 bytes\n"
        );
        let nobody = example("http_client")
            .arg("http://no.such.host.invalid/")
            .output()
            .unwrap();
        assert!(!nobody.status.success());
    });
}
