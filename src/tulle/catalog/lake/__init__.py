"""The pages of one repository of the lake, a module for each noun: what a page shows, as frozen values.

Reads, never writes, and never more than a page: a repository of a million objects is as quick as a small one.
"""
