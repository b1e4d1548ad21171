mod sim;
use sim::clock::SimClock;
use sim::oracle::Oracle;
use sim::session::*;
use sim::storage::SimDisk;
use std::sync::Arc;
#[test]
fn t() {
    for first in 1..200u64 {
        let disk = SimDisk::new(1);
        let clock = Arc::new(SimClock::new());
        let mut o = Oracle::default();
        let mut s = Session::open(&disk, &clock, SETUP).unwrap();
        for id in 0..18 {
            s.append(&mut o, first + id);
        }
        s.step(&mut o, INTERVAL);
        s.step(&mut o, INTERVAL);
        for id in 18..40 {
            s.append(&mut o, first + id);
        }
        s.step(&mut o, INTERVAL);
        s.step(&mut o, INTERVAL);
        let f = s.read(&o, 0);
        if f.len() == 40 {
            continue;
        }
        println!(
            "first {first} {f:?} {:?} {:?}",
            s.gaps,
            s.log().shared().segments()
        );
        for id in 0..40 {
            print!("{} ", payload(first + id).len());
        }
        for n in disk.names() {
            let b = disk.bytes(&n);
            println!("{n} {}", b.len());
            for (i, p) in b.chunks(4096).enumerate() {
                if let Some(h) = forebay::format::PageHeader::decode(p) {
                    println!("{i} {h:?}");
                }
            }
        }
        return;
    }
}
