"""`./dev bench`: ratios against peers, measured side by side in one run.

__main__  the command line and its tables      figures          what is compared with what, and the goals
harness   arms, rounds, medians, processes     peer_arms, ours  the arms, a small function each
install   the peers, into build/bench          servers          Redis and the HTTP server
peers/    programs that measure one peer and print one JSON line
"""
