//! A page for Prometheus: the cache's statistics, published when the page is scraped.
//!
//!     cargo run --example prometheus --features metrics           # serves and scrapes itself once
//!     cargo run --example prometheus --features metrics -- 9095   # serves until it is stopped
//!
//! A service that has an HTTP server serves `PrometheusHandle::render` from it.

use metrics_exporter_prometheus::PrometheusBuilder;
use oncewheel::{Config, Horizon, Timestamp, metrics::Publisher, sync::DedupCache};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map(|port| port.parse()).transpose()?;
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0)))?;
    let address = listener.local_addr()?;
    println!("http://{address}/metrics");

    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let cache = DedupCache::new(Config::new(horizon))?;
    for (key, seconds_ago) in [("transfer-1", 90), ("transfer-2", 60), ("transfer-1", 30)] {
        let _ = cache.insert(key, Timestamp::now().saturating_sub(Duration::from_secs(seconds_ago)))?;
    }

    let recorder = PrometheusBuilder::new().install_recorder()?;
    let mut publisher = Publisher::new([("queue", "payments")]);
    let page = move || {
        publisher.publish(&cache.stats());
        recorder.render()
    };
    if port.is_some() {
        return Ok(serve(&listener, page)?);
    }
    std::thread::spawn(move || serve(&listener, page));
    let scraped = scrape(address)?;
    scraped.lines().filter(|line| line.contains("oncewheel_deliveries_total")).for_each(|line| println!("{line}"));
    assert!(scraped.contains(r#"oncewheel_deliveries_total{queue="payments",verdict="duplicate"} 1"#));
    Ok(())
}

/// Answers one request after the other. A client that fails or hangs is given up.
pub fn serve(listener: &TcpListener, mut page: impl FnMut() -> String) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(error) = answer(stream, &mut page) {
            eprintln!("a scrape failed: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, page: &mut impl FnMut() -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(&stream).take(8192).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break; // the end of the request's head
        }
    }
    let (status, body) =
        if request.starts_with("GET /metrics ") { ("200 OK", page()) } else { ("404 Not Found", String::new()) };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// What Prometheus does every few seconds.
pub fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    if head.starts_with("HTTP/1.1 200 ") { Ok(page.to_owned()) } else { Err(std::io::ErrorKind::NotFound.into()) }
}
