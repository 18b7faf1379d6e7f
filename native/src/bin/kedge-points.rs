//! Instruments a module and shows what the pass made of it: for people who work on the pass or look into an image.
//!
//! ```text
//! kedge-points [--points POLICY] [--flag memory|global|count] [--suspending a.b,c.d] [--threads N] [--list] IN [OUT]
//! ```

use std::{error::Error, fs, process::ExitCode};

use kedge_native::points::{
    self,
    metadata::{Metadata, PointInfo, SECTION},
    options::{Flag, Options, Policy},
    select::Stand,
};

const USAGE: &str =
    "usage: kedge-points [--points call|function|loop|loop-all|instruction] [--flag memory|global|count]
                    [--suspending module.name,...] [--threads N] [--list] IN.wasm [OUT.wasm]";

struct Arguments {
    options: Options,
    list: bool,
    input: String,
    output: Option<String>,
}

fn arguments() -> Option<Arguments> {
    let mut options = Options::default();
    let mut list = false;
    let mut files = Vec::new();
    let mut all = std::env::args().skip(1);
    while let Some(argument) = all.next() {
        match argument.as_str() {
            "--points" => options.policy = Policy::from_name(&all.next()?)?,
            "--flag" => options.flag = Flag::from_name(&all.next()?)?,
            "--suspending" => options.suspending = Some(all.next()?.split(',').map(str::to_owned).collect()),
            "--threads" => options.threads = Some(all.next()?.parse().ok()?),
            "--list" => list = true,
            name if name.starts_with("--") => return None,
            _ => files.push(argument),
        }
    }
    let mut files = files.into_iter();
    let (input, output) = (files.next()?, files.next());
    files.next().is_none().then_some(Arguments { options, list, input, output })
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge-points: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let original = fs::read(&arguments.input)?;
    let start = std::time::Instant::now();
    let (output, measure) = points::measured(&original, &arguments.options)?;
    let seconds = start.elapsed().as_secs_f64();
    let metadata = metadata(&output)?;
    println!(
        "{} bytes in, {} bytes out (counted as {} of {}), {} functions with {} points, {:.1} ms",
        original.len(),
        output.len(),
        measure.counted,
        measure.limit,
        metadata.functions.len(),
        metadata.point_count(),
        seconds * 1e3
    );
    if arguments.list {
        for slot in 0..metadata.functions.len() {
            for point in metadata.points(slot)? {
                println!("{}", line(&metadata, slot, &point));
            }
        }
    }
    if let Some(file) = &arguments.output {
        fs::write(file, output)?;
    }
    Ok(())
}

fn metadata(output: &[u8]) -> Result<Metadata, Box<dyn Error>> {
    for payload in wasmparser::Parser::new(0).parse_all(output) {
        if let wasmparser::Payload::CustomSection(section) = payload?
            && section.name() == SECTION
        {
            return Ok(Metadata::decode(section.data())?);
        }
    }
    Err("the output has no point table".into())
}

fn line(metadata: &Metadata, slot: usize, point: &PointInfo) -> String {
    let function = &metadata.functions[slot];
    let stand = match point.stand {
        Stand::At => "at",
        Stand::In => "in",
    };
    let typed = |list: &[u32], types: &[points::types::Type]| {
        list.iter().map(|item| format!(" {item}:{:?}", types[*item as usize])).collect::<String>()
    };
    format!(
        "{:6} function {} {stand} {:#x}, locals{}; operands{}",
        point.number,
        point.function,
        point.offset,
        typed(&point.live, &function.locals),
        typed(&point.operands, &function.temps)
    )
}
