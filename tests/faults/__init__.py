"""The fault campaign: whole jobs of real processes over real etcds, with faults, and a checker that knows the promises.

    cd tests && python -m faults --seed 7 --rounds 300 --parallel 2 --out DIR

A *plan* says what a round is: the job, and which fault comes when. It follows from the seed and the round's number alone.
A *round* plays a plan: it starts etcd, the members' processes and a *witness* of etcd's history, brings the faults about,
heals everything, and lets the job end. Each process records its calls. The *checker* is given the history, and nothing
else, and says which promises were broken.
"""
