"""The datasets of the hub that the tasks read, each at a pinned commit."""

from __future__ import annotations

from bench.data.base import DatasetRef

# Splits train and test.
CIFAR10 = DatasetRef(
    name="uoft-cs/cifar10",
    revision="0b2714987fa478483af9968de7c934580d0bb9a2",
    columns=("img", "label"),
)

# Splits train and test.
CIFAR100 = DatasetRef(
    name="uoft-cs/cifar100",
    revision="aadb3af77e9048adbea6b47c21a81e47dd092ae5",
    columns=("img", "fine_label"),
)

# Splits train and test; a mirror may add validation.
AMAZON_POLARITY = DatasetRef(
    name="fancyzhx/amazon_polarity",
    revision="9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289",
    columns=("label", "title", "content"),
)

# One split on the hub, "full", as JSON lines; train, validation and test in a mirror.
AMAZON_REVIEWS = DatasetRef(
    name="McAuley-Lab/Amazon-Reviews-2023",
    revision="2b6d039ed471f2ba5fd2acb718bf33b0a7e5598e",
    columns=("rating", "title", "text", "parent_asin"),
    files={"full": "raw/review_categories/All_Beauty.jsonl"},
)

# Splits train and test; a mirror may add train_random.  The main branch holds only a loading
# script, which is never run, so the hub's own conversion to parquet is read.  The commit of that
# branch could not be confirmed offline: it is resolved when read, and the commit is recorded.
SENTIMENT140 = DatasetRef(
    name="stanfordnlp/sentiment140",
    revision="refs/convert/parquet",
    columns=("text", "sentiment"),
    files={
        "train": "sentiment140/train/*.parquet",
        "test": "sentiment140/test/*.parquet",
    },
)

# Splits train, validation and test; the queries of test have no selected passages in v2.1.
MS_MARCO = DatasetRef(
    name="microsoft/ms_marco",
    revision="a47ee7aae8d7d466ba15f9f0bfac3b3681087b3a",
    columns=("query_id", "query", "passages"),
    config="v1.1",
)

# The passage-ranking collection of 8.8 million in the BEIR layout: one repository with two
# configurations of one split each, and one with the judgements.
BEIR_CORPUS = DatasetRef(
    name="BeIR/msmarco",
    revision="a918e0d11a77ed33f42f29d98340b655593b96ad",
    columns=("_id", "title", "text"),
    config="corpus",
)
BEIR_QUERIES = DatasetRef(
    name="BeIR/msmarco",
    revision="a918e0d11a77ed33f42f29d98340b655593b96ad",
    columns=("_id", "text"),
    config="queries",
)
BEIR_QRELS = DatasetRef(
    name="BeIR/msmarco-qrels",
    revision="253fbf8a3f8d4a0932b63882b5162bedc84779f5",
    columns=("query-id", "corpus-id", "score"),
)

# What `doctor` asks for: sets with a split "train".
ALL = (CIFAR10, CIFAR100, AMAZON_POLARITY, AMAZON_REVIEWS, SENTIMENT140, MS_MARCO)
