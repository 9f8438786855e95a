"""Interpretation: which words decided, and how far that answer can be trusted.

``attribution`` shares a classifier's log-odds out among the tokens of a text, by Captum's methods;
``words`` sums word pieces into words and phrases; ``conductance`` looks into the layers;
``attention`` is shown beside, and is no attribution; ``page`` displays words with their values;
``scores`` is the function that all of them explain.

Whether it is true: ``truth`` scores an explanation where the words that decided are known,
``faithfulness`` by changing what the model reads, ``sanity`` by another method and by a model that
has forgotten. ``vocabulary`` goes from one text to a test set, and finds cues that stopped telling;
``matching`` explains a bi-encoder's similarity by pairs of words.
"""

from recsys_lib.interpret.attribution import METHODS, Attribution, attribute
from recsys_lib.interpret.conductance import layer_conductance
from recsys_lib.interpret.page import token_page
from recsys_lib.interpret.scores import BASELINES
from recsys_lib.interpret.words import Words, by_phrase, by_word, word_spans

__all__ = [
    "BASELINES",
    "METHODS",
    "Attribution",
    "Words",
    "attribute",
    "by_phrase",
    "by_word",
    "layer_conductance",
    "token_page",
    "word_spans",
]
