/* binary-trees [DEPTH]: many trees are allocated, walked and freed. Recursion and malloc. */
#include "program.h"

struct node {
    struct node *left, *right;
};

static struct node *grow(uint32_t depth)
{
    struct node *node = malloc(sizeof *node);
    if (node == NULL)
        abort();
    node->left = depth > 0 ? grow(depth - 1) : NULL;
    node->right = depth > 0 ? grow(depth - 1) : NULL;
    return node;
}

static uint32_t count(const struct node *node)
{
    return node->left == NULL ? 1 : 1 + count(node->left) + count(node->right);
}

static void fell(struct node *node)
{
    if (node->left != NULL) {
        fell(node->left);
        fell(node->right);
    }
    free(node);
}

int main(int argc, char **argv)
{
    uint32_t most = program_size(argc, argv, 14);
    uint64_t sum = PROGRAM_HASH;
    struct node *lasting = grow(most);
    for (uint32_t depth = 4; depth <= most; depth += 4) {
        uint32_t trees = 1u << (most - depth + 4), nodes = 0;
        for (uint32_t i = 0; i < trees; i++) {
            struct node *tree = grow(depth);
            nodes += count(tree);
            fell(tree);
        }
        sum = program_mix(sum, nodes);
    }
    sum = program_mix(sum, count(lasting));
    fell(lasting);
    return program_end(sum);
}
