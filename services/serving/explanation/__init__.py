"""From an answer to what it is made of: a base value and one contribution per column.

Exact where the model is linear or made of trees, otherwise sampled with a stated error. All files
but `words` and `places` read fitted estimators and are imported late, with the first explanation:
an idle replica needs neither scikit-learn nor numpy.
"""
