"""Word count in a Python package: PACKAGE TEXT OUT THREADS. Prints the words, the different words and the seconds."""
import sys
import time

package, text, out, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
started = time.time()
if package == "duckdb":
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"set threads={threads}")
    connection.execute(
        f"""copy (select w, count(*) c from (select unnest(string_split(line, ' ')) w
            from read_csv('{text}', header=false, delim='\t', quote='', escape='',
                          columns={{'line': 'VARCHAR'}}, auto_detect=false)) group by w)
            to '{out}' (header false)"""
    )
elif package == "polars":
    import polars as pl

    lines = pl.scan_csv(
        text, has_header=False, separator="\t", quote_char=None, schema={"line": pl.String}
    )
    counts = (
        lines.select(pl.col("line").str.split(" ").alias("w"))
        .explode("w")
        .group_by("w")
        .agg(pl.len().alias("c"))
    )
    counts.sink_csv(out, include_header=False, engine="streaming")
elif package == "datafusion":
    import datafusion

    context = datafusion.SessionContext(
        datafusion.SessionConfig().with_target_partitions(threads)
    )
    context.sql(
        f"""create external table t (line varchar) stored as csv location '{text}'
            options ('format.has_header' 'false', 'format.delimiter' '\t', 'format.quote' '\x01')"""
    )
    context.sql(
        f"""copy (select w, count(*) c from (select unnest(string_to_array(line, ' ')) w from t) group by w)
            to '{out}' stored as csv options ('format.has_header' 'false')"""
    ).collect()
else:
    sys.exit(f"no word count for {package}")
seconds = time.time() - started
counts = [int(line.rsplit(",", 1)[1]) for line in open(out)]
print(f"words={sum(counts)} distinct={len(counts)} inside={seconds:.3f}")
