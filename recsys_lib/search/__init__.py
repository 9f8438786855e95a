"""Search: rankers, fusion, the vector index, learning to rank, and a shopper's own words.

``results`` is the form of every ranking; ``lexical`` searches keywords, ``index`` vectors (exactly
or by FAISS), ``index_files`` saves an index; ``catalog`` embeds a catalog onto disk; ``fusion``
makes one ranking of several, ``learned`` re-ranks by LambdaMART, ``tuned`` fine-tunes bi-encoder
and cross-encoder and keeps them; ``personal`` answers a wish with earlier purchases in mind, and
``page`` shows what it found.
"""

from recsys_lib.search.catalog import Catalog, embed_catalog, open_catalog
from recsys_lib.search.fusion import (
    choose_first_weight,
    reciprocal_rank_fusion,
    weighted_fusion,
)
from recsys_lib.search.index import (
    VectorIndex,
    build_index,
    clustered_vectors,
    compare_indexes,
    exact_search,
    index_search,
    recall_against,
    take_vectors,
)
from recsys_lib.search.index_files import open_index, save_index
from recsys_lib.search.learned import (
    RankFeatures,
    RankModel,
    fit_lambdamart,
    rank_by_model,
    rank_features,
)
from recsys_lib.search.lexical import (
    KeywordIndex,
    keyword_index,
    keyword_scores,
    keyword_search,
    words,
)
from recsys_lib.search.page import ResultPage, result_page, search_box
from recsys_lib.search.personal import (
    Found,
    ShownLists,
    choose_weight,
    lists_from_log,
    personal_vectors,
    search_for,
    taste_vectors,
)
from recsys_lib.search.results import NO_ROW, Ranking, rank_triples, top_k
from recsys_lib.search.tuned import (
    TunedRanker,
    embedded_products,
    encode_products,
    re_ranked,
    tuned_biencoder,
    tuned_crossencoder,
    validation_products,
)

__all__ = [
    "NO_ROW",
    "Catalog",
    "Found",
    "KeywordIndex",
    "RankFeatures",
    "RankModel",
    "Ranking",
    "ResultPage",
    "ShownLists",
    "TunedRanker",
    "VectorIndex",
    "build_index",
    "choose_first_weight",
    "choose_weight",
    "clustered_vectors",
    "compare_indexes",
    "embed_catalog",
    "embedded_products",
    "encode_products",
    "exact_search",
    "fit_lambdamart",
    "index_search",
    "keyword_index",
    "keyword_scores",
    "keyword_search",
    "lists_from_log",
    "open_catalog",
    "open_index",
    "personal_vectors",
    "rank_by_model",
    "rank_features",
    "rank_triples",
    "re_ranked",
    "recall_against",
    "reciprocal_rank_fusion",
    "result_page",
    "save_index",
    "search_box",
    "search_for",
    "take_vectors",
    "taste_vectors",
    "top_k",
    "tuned_biencoder",
    "tuned_crossencoder",
    "validation_products",
    "weighted_fusion",
    "words",
]
