"""Fetch the mass part of CBIS-DDSM: 82 GB of films, masks and crops, and the two CSVs that describe them.

    python data_prep/fetch_cbis.py                       # into data/cbis; says first how much it is
    python data_prep/fetch_cbis.py --films-only 60       # a few whole patients, to try the way
    python data_prep/fetch_cbis.py --out /disk/cbis --nbia

Comes from the Imaging Data Commons (IDC), where The Cancer Imaging Archive (TCIA) moves its DICOM files; `--nbia` takes
TCIA's own server while that lasts. Both give the same folders, so that one may go on where the other stopped.

Writes OUT/mass_case_description_{train,test}_set.csv and OUT/SERIES/*.dcm: films, ROI masks and crops. The folder of a
series appears when all of it is there, as many files and bytes as IDC's index says, or with NBIA's MD5s; so a download
that was stopped goes on when the command is typed again. A CSV that is there already, however it came, is taken as it
is.
"""

import argparse
import sys
from pathlib import Path

from data_prep.core.errors import InputError, run
from data_prep.core.files import pasted
from data_prep.sources import cbis_download, idc_client

CREDIT = """\
CBIS-DDSM is licensed CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/). TCIA asks that you cite it:
  Sawyer-Lee, R., Gimenez, F., Hoogi, A., & Rubin, D. (2016). Curated Breast Imaging Subset of Digital Database for
  Screening Mammography (CBIS-DDSM) [Data set]. The Cancer Imaging Archive. doi 10.7937/K9/TCIA.2016.7O02S9CY"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/cbis"), help="default: data/cbis")
    few = "fetch only the first patients, until they have N films"
    idc, tcia = "IDC's S3 server", "an NBIA server's REST interface in IDC's place"
    parser.add_argument("--films-only", type=int, metavar="N", help=few)
    parser.add_argument("--endpoint", default=idc_client.BUCKETS, help=f"{idc} (default: {idc_client.BUCKETS})")
    parser.add_argument("--nbia", "--base", nargs="?", const=cbis_download.TCIA, metavar="URL", help=f"{tcia} (TCIA's)")
    tables = "folder of the two CSVs on the web"
    parser.add_argument("--tables", default=cbis_download.TABLES, help=f"{tables} (default: {cbis_download.TABLES})")
    args = parser.parse_args()
    try:
        cbis_download.fetch(args.out, args.tables.rstrip("/"), args.nbia, args.endpoint, args.films_only)
    except OSError as error:
        raise InputError(
            f"{args.out}: cannot be written ({error.strerror}); free some space, then {cbis_download.AGAIN}"
        ) from None
    except KeyboardInterrupt:
        print(f"interrupted; {cbis_download.AGAIN}", file=sys.stderr)
        raise SystemExit(130) from None
    print(CREDIT)
    print(f"{args.out}: finished; next: python data_prep/build_lmdb.py --source cbis --root {pasted(args.out)}")


if __name__ == "__main__":
    sys.exit(run(main))
