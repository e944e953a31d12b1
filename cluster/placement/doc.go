// Package placement owns the question which nodes are to hold which group: the
// names of the groups, the states and weights of nodes, and how a group is placed
// on them. All of it is a pure function of what it is given.
//
// The catalog's leader works a placement out from the rows of the nodes and keeps
// it in a row of the catalog; the leader of each group moves its members toward
// it, and the nodes open and close their groups. All that is cluster's.
package placement
